//! Live entries of a room, encoded once for all their receivers.
//!
//! # Design
//! What the tail reads of a room in one go is one batch. Its frames, headers included, stand behind
//! each other in one piece of memory per subprotocol, made when the first receiver needs it; a
//! receiver that is up to date takes the whole piece, one that already has a part takes the rest.

use std::sync::OnceLock;

use bytes::Bytes;
use tracing::error;

use crate::fault::{self, Fault};
use crate::model::{Cursor, Entry, EntryKind, ResetReason, Room};
use crate::protocol::{ServerFrame, Subprotocol, append, frame};

/// Consecutive entries of one room. Never empty.
#[derive(Debug)]
pub(super) struct RoomBatch {
    entries: Vec<Entry>,
    bytes: usize,
    json: OnceLock<Encoded>,
    msgpack: OnceLock<Encoded>,
}

#[derive(Debug)]
struct Encoded {
    frames: Bytes,
    /// Where the frame of each entry begins.
    starts: Box<[usize]>,
}

/// How a batch fits to what a receiver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    /// The receiver has all of it.
    Known,
    /// From this entry on it is what follows.
    From(usize),
    /// Something is missing in between.
    Hole,
}

impl RoomBatch {
    /// A batch of these entries, which are of one room and in order.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(|entry| entry.envelope.len() + ENTRY_BYTES).sum();
        Self { entries, bytes, json: OnceLock::new(), msgpack: OnceLock::new() }
    }

    pub(super) fn room(&self) -> &Room {
        &self.entries[0].room
    }

    pub(super) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where a receiver stands that has taken it.
    pub(super) fn last(&self) -> Cursor {
        self.entries[self.entries.len() - 1].cursor()
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What of this batch comes next for a receiver that stands at `at`.
    pub(super) fn fit(&self, at: Cursor) -> Fit {
        let first = self.entries.iter().position(|entry| entry.id > at.id);
        match first {
            None => Fit::Known,
            Some(index) if before(&self.entries[index]) == at.seq || fault::active(Fault::NoSplice) => Fit::From(index),
            Some(_) => Fit::Hole,
        }
    }

    /// The frames of the entries from `index` on.
    pub(super) fn frames(&self, subprotocol: Subprotocol, index: usize) -> Bytes {
        let cell = match subprotocol {
            Subprotocol::Json => &self.json,
            Subprotocol::MsgPack => &self.msgpack,
        };
        let encoded = cell.get_or_init(|| self.encode(subprotocol));
        encoded.frames.slice(encoded.starts[index]..)
    }

    fn encode(&self, subprotocol: Subprotocol) -> Encoded {
        let mut frames = Vec::with_capacity(self.bytes);
        let mut starts = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let start = frames.len();
            starts.push(start);
            if let Err(error) = append(subprotocol, &ServerFrame::Entry(entry), &mut frames) {
                frames.truncate(start);
                error!(entry.id = %entry.id, %error, "can't deliver a corrupt entry, announced by a reset");
                // The receiver is told, and goes on after it: never a silent gap.
                let reset = ServerFrame::Reset { room: &entry.room, reason: ResetReason::Forked, from: entry.cursor() };
                let _ = append(subprotocol, &reset, &mut frames);
            }
        }
        Encoded { frames: frames.into(), starts: starts.into() }
    }
}

/// What the frame of an entry adds to its envelope, about: names of fields, id, header.
const ENTRY_BYTES: usize = 128;

/// The seq that stands before an entry.
pub(super) fn before(entry: &Entry) -> u64 {
    match entry.kind {
        EntryKind::Message => entry.seq.saturating_sub(1),
        EntryKind::Event => entry.seq,
    }
}

/// A signal, encoded once for all its receivers.
#[derive(Debug)]
pub(super) struct SignalFrame {
    room: Room,
    user: String,
    body: String,
    json: OnceLock<Bytes>,
    msgpack: OnceLock<Bytes>,
}

impl SignalFrame {
    pub(super) fn new(room: Room, user: String, body: String) -> Self {
        Self { room, user, body, json: OnceLock::new(), msgpack: OnceLock::new() }
    }

    pub(super) fn encoded(&self, subprotocol: Subprotocol) -> Bytes {
        let cell = match subprotocol {
            Subprotocol::Json => &self.json,
            Subprotocol::MsgPack => &self.msgpack,
        };
        let signal = ServerFrame::Signal { room: &self.room, user: &self.user, body: &self.body };
        // Best effort: one that can't be encoded is as good as lost.
        cell.get_or_init(|| frame(subprotocol, &signal).unwrap_or_default()).clone()
    }
}
