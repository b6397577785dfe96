//! Requests for the past, to [`super::recent`] and to the replay workers, that wait for their answers.
//!
//! **Invariant:** each request ends with exactly one note to its connection: the answer, or that
//! there was none in time. A lost request or answer is asked again; the second answer is ignored.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::desk::{Desks, Order};
use super::outbox::{Note, Outbox};
use crate::model::{Answer, Answered, Ask, Request, Room};
use crate::telemetry::names;

/// How long an answer may take before the request is asked again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often overdue requests are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

struct Asked {
    outbox: Arc<Outbox>,
    room: Room,
    ask: Ask,
    began: Instant,
    sent: Instant,
    deadline: Option<Instant>,
}

/// The requests under way.
pub(super) struct Asks {
    waiting: Mutex<HashMap<u64, Asked>>,
    next: AtomicU64,
}

impl Asks {
    pub(super) fn new() -> Self {
        Self { waiting: Mutex::default(), next: AtomicU64::new(1) }
    }

    /// Notes a request; it is sent by a [`Desks`] order that names its number.
    /// Without `patience` it is asked again for ever.
    pub(super) fn open(&self, outbox: &Arc<Outbox>, room: &Room, ask: Ask, patience: Option<Duration>) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let asked = Asked {
            outbox: outbox.clone(),
            room: room.clone(),
            ask,
            began: now,
            sent: now,
            deadline: patience.map(|patience| now + patience),
        };
        self.lock().insert(number, asked);
        number
    }

    /// The request with this number as it goes to a worker, if it still waits.
    pub(super) fn request(&self, number: u64) -> Option<Request> {
        let mut waiting = self.lock();
        let asked = waiting.get_mut(&number)?;
        asked.sent = Instant::now();
        Some(Request { request: number, room: asked.room.clone(), ask: asked.ask.clone() })
    }

    /// Whether it is still waited for, and about what is to be delivered rather than a page of history.
    pub(super) fn is_delivery(&self, number: u64) -> bool {
        self.lock().get(&number).is_some_and(|asked| !matches!(asked.ask, Ask::History { .. }))
    }

    /// Another number for a request: what answers the one before comes too late. Nothing: it has been answered.
    pub(super) fn renew(&self, number: u64) -> Option<u64> {
        let renewed = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.lock();
        let asked = waiting.remove(&number)?;
        waiting.insert(renewed, Asked { sent: Instant::now(), ..asked });
        Some(renewed)
    }

    /// Nobody waits for this answer any more.
    pub(super) fn forget(&self, number: u64) {
        self.lock().remove(&number);
    }

    /// Hands an answer to everybody who asked for it.
    pub(super) fn answer(&self, answered: Answered) {
        // Unavailable now: the next look asks again.
        if answered.answer == Answer::Unavailable {
            return;
        }
        let answer = Arc::new(answered.answer);
        for number in answered.requests {
            if let Some(asked) = self.lock().remove(&number) {
                metrics::histogram!(names::ASK_SECONDS).record(asked.began.elapsed());
                asked.outbox.push(Note::Answer(number, Some(answer.clone())));
            }
        }
    }

    /// Requests to ask again now; those whose time is over are ended.
    fn overdue(&self) -> Vec<(u64, Room)> {
        let now = Instant::now();
        let mut again = Vec::new();
        self.lock().retain(|number, asked| {
            if asked.deadline.is_some_and(|deadline| deadline <= now) {
                asked.outbox.push(Note::Answer(*number, None));
                return false;
            }
            if now.duration_since(asked.sent) >= ASK_AGAIN_AFTER {
                asked.sent = now;
                again.push((*number, asked.room.clone()));
            }
            true
        });
        again
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Asked>> {
        // No code that holds the lock can panic half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks again what was not answered in time, until it is dropped.
pub(super) async fn run(asks: Arc<Asks>, desks: Arc<Desks>) {
    let repeated = metrics::counter!(names::ASKS_REPEATED);
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        for (number, room) in asks.overdue() {
            repeated.increment(1);
            // A full desk has more urgent things: the next look tries again.
            desks.try_order(&room, Order::AskAgain(number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cursor, Page, Since};

    /// An answer under way may come from a log that is another one by now.
    #[test]
    fn an_answer_to_a_request_that_was_renewed_is_ignored() {
        let (asks, outbox) = (Asks::new(), Arc::new(Outbox::new(1, 1_000)));
        let asked = asks.open(&outbox, &Room::new("r").unwrap(), Ask::Join(Since::Now), None);
        let renewed = asks.renew(asked).unwrap();
        assert_eq!(asks.request(renewed).map(|request| request.ask), Some(Ask::Join(Since::Now)));
        let page = Page { entries: Vec::new(), upto: Cursor::START, more: false };
        let answer = |number| {
            asks.answer(Answered { requests: vec![number], answer: Answer::Page { reset: None, page: page.clone() } })
        };
        answer(asked);
        assert!(outbox.pop().is_none());
        answer(renewed);
        assert!(matches!(outbox.pop(), Some(Note::Answer(number, Some(_))) if number == renewed));
        assert!(asks.renew(renewed).is_none(), "it has its answer");
    }
}
