//! What waits for one connection: pushed by anybody, taken by the connection's own task.
//!
//! **Invariant:** pushing never waits and never fails; live batches beyond the limit are dropped
//! and remembered as dropped, so that the connection gets them again from the log.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::broadcast::{RoomBatch, SignalFrame};
use super::control::Control;
use crate::model::{Answer, EntryId};
use crate::publish::{Outcome, Sink};

/// Notes behind which a signal is dropped rather than kept.
const SIGNAL_NOTES_MAX: usize = 1_000;

/// A subscription of one connection; never used twice in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct SubscriptionId(pub(super) u32);

/// Something for a connection.
#[derive(Debug)]
pub(super) enum Note {
    /// Entries of a room, live.
    Batch(SubscriptionId, Arc<RoomBatch>),
    /// A signal in a room.
    Signal(SubscriptionId, Arc<SignalFrame>),
    /// The outcome of a send.
    Published(u64, Outcome),
    /// An answer of the replay workers; nothing: they could not be reached in time.
    Answer(u64, Option<Arc<Answer>>),
    /// Something that changes the connection itself.
    Control(Control),
}

/// What a subscription missed because its connection reads too slowly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dropped {
    pub(super) subscription: SubscriptionId,
    /// The last entry that was dropped.
    pub(super) upto: EntryId,
}

#[derive(Debug, Default)]
struct Waiting {
    notes: VecDeque<Note>,
    /// Bytes of the batches among them.
    bytes: usize,
    dropped: Vec<Dropped>,
    closed: bool,
}

/// The queue in front of a connection.
#[derive(Debug)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
    waker: AtomicWaker,
    bytes_max: usize,
    /// The connection's number on this edge.
    pub(super) connection: u64,
}

impl Outbox {
    pub(super) fn new(connection: u64, bytes_max: usize) -> Self {
        Self { waiting: Mutex::default(), waker: AtomicWaker::new(), bytes_max, connection }
    }

    /// Puts a note behind the others.
    pub(super) fn push(&self, note: Note) {
        let mut waiting = self.waiting();
        if !waiting.closed {
            waiting.notes.push_back(note);
            drop(waiting);
            self.waker.wake();
        }
    }

    /// Puts a signal behind the others, if the connection keeps up.
    pub(super) fn push_signal(&self, subscription: SubscriptionId, frame: &Arc<SignalFrame>) {
        let mut waiting = self.waiting();
        if !waiting.closed && waiting.dropped.is_empty() && waiting.notes.len() < SIGNAL_NOTES_MAX {
            waiting.notes.push_back(Note::Signal(subscription, frame.clone()));
            drop(waiting);
            self.waker.wake();
        }
    }

    /// Puts live entries behind the others, or drops them and all other live entries that wait if
    /// there are too many bytes. Gives whether anything was dropped.
    pub(super) fn push_batch(&self, subscription: SubscriptionId, batch: &Arc<RoomBatch>) -> bool {
        let mut waiting = self.waiting();
        if waiting.closed {
            return false;
        }
        let overflow = !waiting.dropped.is_empty() || waiting.bytes + batch.bytes() > self.bytes_max;
        if overflow {
            waiting.drop_batches();
            waiting.note_dropped(subscription, batch.last().id);
        } else {
            waiting.bytes += batch.bytes();
            waiting.notes.push_back(Note::Batch(subscription, batch.clone()));
        }
        drop(waiting);
        self.waker.wake();
        overflow
    }

    /// The next note, in order.
    pub(super) fn pop(&self) -> Option<Note> {
        let mut waiting = self.waiting();
        let note = waiting.notes.pop_front();
        if let Some(Note::Batch(_, batch)) = &note {
            waiting.bytes -= batch.bytes();
        }
        // A queue that was long once shall not hold its memory while the connection idles.
        if waiting.notes.is_empty() && waiting.notes.capacity() > 64 {
            waiting.notes = VecDeque::new();
        }
        note
    }

    /// What was dropped since the last call. From now on batches are taken again.
    pub(super) fn take_dropped(&self) -> Vec<Dropped> {
        mem::take(&mut self.waiting().dropped)
    }

    /// Ready when there is something to take.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        let waiting = self.waiting();
        if waiting.notes.is_empty() && waiting.dropped.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Bytes that wait, and whether live entries were dropped that the connection has not noticed yet.
    pub(super) fn backlog(&self) -> (usize, bool) {
        let waiting = self.waiting();
        (waiting.bytes, !waiting.dropped.is_empty())
    }

    /// Takes nothing any more: the connection has ended.
    pub(super) fn close(&self) {
        let mut waiting = self.waiting();
        *waiting = Waiting { closed: true, ..Waiting::default() };
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // No code that holds the lock can panic half-way through a change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn drop_batches(&mut self) {
        let notes = mem::take(&mut self.notes);
        for note in notes {
            match note {
                Note::Batch(subscription, batch) => self.note_dropped(subscription, batch.last().id),
                Note::Signal(..) => {}
                other => self.notes.push_back(other),
            }
        }
        self.bytes = 0;
    }

    fn note_dropped(&mut self, subscription: SubscriptionId, upto: EntryId) {
        match self.dropped.iter_mut().find(|dropped| dropped.subscription == subscription) {
            Some(dropped) => dropped.upto = dropped.upto.max(upto),
            None => self.dropped.push(Dropped { subscription, upto }),
        }
    }
}

impl Sink for Outbox {
    fn published(&self, ticket: u64, outcome: Outcome) {
        self.push(Note::Published(ticket, outcome));
    }
}
