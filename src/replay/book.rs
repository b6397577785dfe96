//! Requests put together, answers packed.

use std::collections::{BTreeMap, HashMap};
use std::mem;

use crate::model::{Answer, Answered, Ask, EdgeNote, Requests, Room};

/// Bytes of one note, about. A page and a few small ones fit; a note is read whole.
const NOTE_BYTES: usize = 512 << 10;
/// Bytes that an entry adds to its envelope on the way: id, room, seq.
const ENTRY_BYTES: usize = 48;
/// Bytes of an answer without its entries, about.
const ANSWER_BYTES: usize = 64;

/// Requests that wait together: each question once, and who asked it.
#[derive(Debug, Default)]
pub(super) struct Book {
    questions: Vec<(Room, Ask)>,
    places: HashMap<(Room, Ask), usize>,
    /// Edge → question → the edge's numbers for it.
    asked: BTreeMap<String, BTreeMap<usize, Vec<u64>>>,
    requests: usize,
}

impl Book {
    /// Adds the requests of an edge.
    pub(super) fn add(&mut self, requests: Requests) {
        self.requests += requests.requests.len();
        let of_edge = self.asked.entry(requests.edge).or_default();
        for request in requests.requests {
            let question = (request.room, request.ask);
            let place = *self.places.entry(question.clone()).or_insert_with(|| {
                self.questions.push(question);
                self.questions.len() - 1
            });
            of_edge.entry(place).or_default().push(request.request);
        }
    }

    /// The questions, each once.
    pub(super) fn questions(&self) -> &[(Room, Ask)] {
        &self.questions
    }

    /// How many requests there are.
    pub(super) fn len(&self) -> usize {
        self.requests
    }

    /// How many requests there are of each kind.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let mut kinds = BTreeMap::new();
        for (place, numbers) in self.asked.values().flatten() {
            let kind = match self.questions[*place].1 {
                Ask::Join(_) => "join",
                Ask::Page(_) => "page",
                Ask::History { .. } => "history",
            };
            *kinds.entry(kind).or_default() += numbers.len() as u64;
        }
        kinds.into_iter()
    }

    /// The notes for each edge, given the answers in the order of the questions.
    pub(super) fn notes(self, mut answers: Vec<Answer>) -> Vec<(String, Vec<EdgeNote>)> {
        answers.resize(self.questions.len(), Answer::Unavailable);
        let mut left = vec![0; answers.len()];
        self.asked.values().flat_map(BTreeMap::keys).for_each(|place| left[*place] += 1);
        // The last edge that asked gets the answer itself, and only others a copy.
        let mut answer = |place: usize| {
            left[place] -= 1;
            if left[place] > 0 {
                answers[place].clone()
            } else {
                mem::replace(&mut answers[place], Answer::Unavailable)
            }
        };
        self.asked.into_iter().map(|(edge, asked)| (edge, pack(asked, &mut answer))).collect()
    }
}

fn pack(asked: BTreeMap<usize, Vec<u64>>, mut answer: impl FnMut(usize) -> Answer) -> Vec<EdgeNote> {
    let (mut notes, mut open, mut bytes) = (Vec::new(), Vec::new(), 0);
    for (place, requests) in asked {
        let answer = answer(place);
        let size = size_of(&answer) + requests.len() * size_of_number();
        if bytes + size > NOTE_BYTES && !open.is_empty() {
            notes.push(EdgeNote::Answers(mem::take(&mut open)));
            bytes = 0;
        }
        bytes += size;
        open.push(Answered { requests, answer });
    }
    if !open.is_empty() {
        notes.push(EdgeNote::Answers(open));
    }
    notes
}

fn size_of_number() -> usize {
    // A large integer in MessagePack.
    9
}

fn size_of(answer: &Answer) -> usize {
    let entries = match answer {
        Answer::Joined { page, .. } | Answer::Page { page, .. } => &page.entries[..],
        Answer::History { entries, .. } => &entries[..],
        Answer::Unavailable => &[],
    };
    ANSWER_BYTES + entries.iter().map(|entry| entry.envelope.len() + entry.room.len() + ENTRY_BYTES).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::{Cursor, Entry, EntryId, EntryKind, Page, Request, Since};

    fn join(request: u64, room: &str) -> Request {
        Request { request, room: Room::new(room).unwrap(), ask: Ask::Join(Since::Start) }
    }

    fn requests(edge: &str, requests: Vec<Request>) -> Requests {
        Requests { edge: edge.into(), requests }
    }

    fn page(room: &str) -> Answer {
        let envelope = Bytes::from(vec![0; 200 << 10]);
        let (id, room) = (EntryId::new(1, 0), Room::new(room).unwrap());
        let entries = vec![Entry { id, room, seq: 1, kind: EntryKind::Message, envelope }];
        Answer::Page { reset: None, page: Page { entries, upto: Cursor::new(id, 1), more: false } }
    }

    #[test]
    fn the_same_question_is_asked_once_and_answered_to_everybody() {
        let mut book = Book::default();
        book.add(requests("e1", vec![join(1, "a"), join(2, "b"), join(3, "a")]));
        book.add(requests("e2", vec![join(7, "a")]));
        assert_eq!(book.questions().len(), 2);
        assert_eq!((book.len(), book.kinds().collect::<Vec<_>>()), (4, vec![("join", 4)]));
        let notes = book.notes(vec![page("a"), Answer::Unavailable]);
        let numbers = |note: &EdgeNote| match note {
            EdgeNote::Answers(answers) => answers.iter().map(|a| a.requests.clone()).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(notes.len(), 2);
        assert_eq!(numbers(&notes[0].1[0]), [vec![1, 3], vec![2]]);
        assert_eq!(numbers(&notes[1].1[0]), [vec![7]]);
        let first = |note: &EdgeNote| matches!(note, EdgeNote::Answers(all) if all[0].answer == page("a"));
        assert!(notes.iter().all(|(_, notes)| first(&notes[0])), "each edge gets the page");
    }

    /// Answers of many pages must not become one entry of many megabytes.
    #[test]
    fn notes_are_bounded_in_bytes() {
        let mut book = Book::default();
        let rooms = ["a", "b", "c", "d", "e"];
        book.add(requests("e", rooms.iter().zip(1..).map(|(room, n)| join(n, room)).collect()));
        let notes = book.notes(rooms.map(page).to_vec()).remove(0).1;
        assert_eq!(notes.len(), 3);
        assert!(notes.iter().all(|note| rmp_serde::to_vec(note).unwrap().len() <= NOTE_BYTES));
    }
}
