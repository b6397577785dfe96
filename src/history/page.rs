//! A page while it is being filled: dense, in order, bounded.
//!
//! **Invariant:** the entries of a draft follow each other without a hole, wherever they came from:
//! each message has the seq after the one before it, and each event the seq of the message before it.

use std::collections::VecDeque;

use crate::model::{Cursor, Entry, EntryId, EntryKind, Page};

/// How much a page may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Entries at most.
    pub(super) entries: usize,
    /// Bytes of envelopes at most; one entry always fits.
    pub(super) bytes: usize,
}

/// Which entries stay when there are more than the bounds allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The first ones; the draft is closed when it is full.
    Oldest,
    /// The last ones; older ones make room.
    Newest,
}

/// Up to where a room was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Up to here; there may be more.
    Part(EntryId),
    /// To the end that the room had when it was surveyed, and here was the end of the log.
    End(EntryId),
}

/// A page while it is being filled.
#[derive(Debug)]
pub(super) struct Draft {
    bounds: Bounds,
    keep: Keep,
    /// The last seq that is wanted.
    last_seq: u64,
    /// Up to here the draft is complete.
    at: Cursor,
    /// The first entry that was seen after the beginning, with the seq of the message before it.
    begin: Option<Cursor>,
    entries: VecDeque<Entry>,
    bytes: usize,
    closed: bool,
}

/// Number of the last message before an entry, by what the entry says.
pub(super) fn seq_before(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::Message => entry.seq.saturating_sub(1),
        EntryKind::Event => entry.seq,
    }
}

impl Draft {
    /// A page that begins after `after`. Whether that cursor is true is not asked here: the draft
    /// takes its beginning from the first entry, and [`Draft::begin`] says what that was.
    pub(super) fn new(after: Cursor, last_seq: u64, keep: Keep, bounds: Bounds) -> Self {
        let (entries, bytes, closed) = (VecDeque::new(), 0, false);
        Self { bounds, keep, last_seq, at: after, begin: None, entries, bytes, closed }
    }

    /// Takes the next entry of the room. What is not after the last one is ignored; what doesn't
    /// fit, or would leave a hole, closes the draft.
    pub(super) fn take(&mut self, entry: Entry) {
        if self.closed || entry.id <= self.at.id {
            return;
        }
        let before = seq_before(&entry);
        if self.begin.is_none() {
            self.begin = Some(Cursor::new(entry.id, before));
            self.at.seq = before;
        }
        let mut hole = before != self.at.seq;
        if hole && self.keep == Keep::Newest {
            // Whoever wants the newest goes on after the hole; what is before it is another page.
            (self.entries, self.bytes, hole) = (VecDeque::new(), 0, false);
        }
        let fits = self.keep == Keep::Newest || self.entries.is_empty() || self.has_room_for(&entry);
        if hole || entry.seq > self.last_seq || !fits {
            self.closed = true;
            return;
        }
        self.at = entry.cursor();
        self.bytes += entry.envelope.len();
        self.entries.push_back(entry);
        while self.keep == Keep::Newest && self.entries.len() > 1 && self.is_over() {
            self.drop_oldest();
        }
    }

    fn has_room_for(&self, entry: &Entry) -> bool {
        self.entries.len() < self.bounds.entries && self.bytes + entry.envelope.len() <= self.bounds.bytes
    }

    fn is_over(&self) -> bool {
        self.entries.len() > self.bounds.entries || self.bytes > self.bounds.bytes
    }

    /// Events go first: a page without a message would leave its reader nothing to go on from.
    fn drop_oldest(&mut self) {
        let events = |entry: &Entry| entry.kind == EntryKind::Event;
        let oldest_event = if self.bytes > self.bounds.bytes { None } else { self.entries.iter().position(events) };
        if let Some(dropped) = self.entries.remove(oldest_event.unwrap_or(0)) {
            self.bytes -= dropped.envelope.len();
        }
    }

    /// Whether it takes nothing more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The first entry that was seen: its id, and the seq of the message before it.
    pub(super) fn begin(&self) -> Option<Cursor> {
        self.begin
    }

    /// The first entry that it holds.
    pub(super) fn first(&self) -> Option<&Entry> {
        self.entries.front()
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Entries that it holds.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The lowest message that it holds.
    pub(super) fn lowest_seq(&self) -> Option<u64> {
        self.messages().map(|entry| entry.seq).next()
    }

    /// The highest message that it holds.
    pub(super) fn highest_seq(&self) -> Option<u64> {
        self.messages().map(|entry| entry.seq).next_back()
    }

    fn messages(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Message)
    }

    /// What it holds.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.entries.into()
    }

    /// The page, given up to where the room was read and the room's end at the survey.
    ///
    /// `since` is where the page begins by the verdict on its cursor. Messages that the survey
    /// counted and nobody found make a hole at the end: the page stays open before it, and the next
    /// request hears of it.
    pub(super) fn into_page(self, since: Cursor, reach: Reach, head: Cursor) -> Page {
        let at = if self.entries.is_empty() { since.max_id(self.at.id) } else { self.at };
        let (upto, more) = match reach {
            _ if self.closed => (at, true),
            Reach::Part(id) => (at.max_id(id), true),
            Reach::End(_) if at.seq < head.seq => (at, true),
            Reach::End(id) => (at.max_id(id), false),
        };
        Page { entries: self.entries.into(), upto, more }
    }
}

trait MaxId {
    fn max_id(self, id: EntryId) -> Self;
}

impl MaxId for Cursor {
    /// The same cursor, moved on to `id` if that is later.
    fn max_id(self, id: EntryId) -> Self {
        Cursor::new(self.id.max(id), self.seq)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::model::Room;

    const PAGE: Bounds = Bounds { entries: 4, bytes: 100 };

    fn entry(kind: EntryKind, id: u64, seq: u64) -> Entry {
        let envelope = Bytes::from_static(&[0; 10]);
        Entry { id: EntryId::new(id, 0), room: Room::new("a").unwrap(), seq, kind, envelope }
    }

    fn filled(keep: Keep, last_seq: u64, entries: &str) -> Draft {
        let mut draft = Draft::new(Cursor::START, last_seq, keep, PAGE);
        for (entry_text, id) in entries.split(' ').zip(1..) {
            let kind = if entry_text.starts_with('m') { EntryKind::Message } else { EntryKind::Event };
            draft.take(entry(kind, id, entry_text[1..].parse().unwrap()));
        }
        draft
    }

    fn held(draft: &Draft) -> String {
        let short: Vec<String> = draft.entries.iter().map(|e| format!("{}{}", e.kind.letter(), e.seq)).collect();
        short.join(" ")
    }

    #[test]
    fn a_page_ends_where_it_is_full_or_has_a_hole() {
        for (entries, wanted) in
            [("m1 e1 m2 e2 m3", "m1 e1 m2 e2"), ("m1 m3 m4", "m1"), ("m1 e2 m3", "m1"), ("e0 m1 m2", "e0 m1 m2")]
        {
            let draft = filled(Keep::Oldest, u64::MAX, entries);
            assert_eq!(held(&draft), wanted);
            assert_eq!(draft.is_closed(), wanted != entries, "{entries}");
        }
    }

    #[test]
    fn the_newest_are_kept_and_events_make_room_first() {
        assert_eq!(held(&filled(Keep::Newest, 9, "m1 e1 e1 e1 m2 m3")), "m1 e1 m2 m3");
        assert_eq!(held(&filled(Keep::Newest, 9, "m1 m2 m3 m4 m5 m6")), "m3 m4 m5 m6");
        assert_eq!(held(&filled(Keep::Newest, 9, "m1 m2 m5 m6")), "m5 m6");
        assert_eq!(held(&filled(Keep::Newest, 2, "m1 e1 m2 e2 m3")), "m1 e1 m2 e2");
    }

    /// Messages that the room counts and nobody found keep the page open before them.
    #[test]
    fn a_page_that_lacks_the_rooms_end_is_not_the_last() {
        let page = |head: u64| {
            let draft = filled(Keep::Oldest, u64::MAX, "m1 m2");
            draft.into_page(Cursor::START, Reach::End(EntryId::new(9, 0)), Cursor::new(EntryId::new(8, 0), head))
        };
        assert_eq!((page(2).more, page(2).upto), (false, Cursor::new(EntryId::new(9, 0), 2)));
        assert_eq!((page(3).more, page(3).upto), (true, Cursor::new(EntryId::new(2, 0), 2)));
    }
}
