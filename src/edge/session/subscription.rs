//! One room that a connection follows: what was delivered, and how far behind it is.
//!
//! **Invariant:** what [`Subscription::last`] says has been handed to the socket in order, and
//! nothing after it has.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::super::broadcast::RoomBatch;
use super::super::outbox::SubscriptionId;
use crate::model::{Cursor, Entry, EntryId, EntryKind, EventName, Item, PartitionId, Room};
use crate::protocol::RequestRef;

/// Ids of delivered messages that are kept to turn an `ack` into a cursor; for an older one the
/// archive is asked.
const DELIVERED_MAX: usize = 1_024;

/// How a subscription stands.
#[derive(Debug)]
pub(super) enum State {
    /// `joined` is not said yet.
    Joining {
        /// The `ref` of the join.
        request_ref: Option<RequestRef>,
        /// The request to the replay workers.
        ask: u64,
        /// The user's read marker.
        read: u64,
    },
    /// Replay goes on; live entries are held.
    CatchingUp {
        /// The request under way; nothing: one is due when the socket has room.
        ask: Option<u64>,
        /// Not before this moment, if set: the log has not come as far as it must.
        not_before: Option<Instant>,
    },
    /// Live entries go out as they come.
    Live,
}

/// A room that is followed.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) room: Room,
    pub(super) partition: PartitionId,
    pub(super) state: State,
    /// Delivered up to here.
    pub(super) last: Cursor,
    /// Catching up isn't over before this entry: up to here live entries have passed us by.
    /// [`EntryId::MAX`]: not known yet, as far as the tail has come when it is asked.
    pub(super) must_reach: EntryId,
    /// Acknowledged up to this seq.
    pub(super) acked: u64,
    /// When catching up began.
    pub(super) behind_since: Instant,
    held: VecDeque<Arc<RoomBatch>>,
    held_entries: usize,
    delivered: Delivered,
    /// The event that closed the room was delivered.
    closed: bool,
}

/// Ids of the last messages delivered; their seqs are consecutive.
#[derive(Debug, Default)]
struct Delivered {
    first_seq: u64,
    ids: VecDeque<EntryId>,
}

impl Subscription {
    pub(super) fn new(
        id: SubscriptionId,
        room: Room,
        partition: PartitionId,
        must_reach: EntryId,
        state: State,
    ) -> Self {
        Self {
            id,
            room,
            partition,
            state,
            last: Cursor::START,
            must_reach,
            acked: 0,
            behind_since: Instant::now(),
            held: VecDeque::new(),
            held_entries: 0,
            delivered: Delivered::default(),
            closed: false,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        matches!(self.state, State::Live)
    }

    /// The request under way.
    pub(super) fn ask(&self) -> Option<u64> {
        match self.state {
            State::Joining { ask, .. } => Some(ask),
            State::CatchingUp { ask, .. } => ask,
            State::Live => None,
        }
    }

    /// Delivery begins, or begins anew, after `cursor`.
    pub(super) fn begin_after(&mut self, cursor: Cursor) {
        self.last = cursor;
        self.delivered = Delivered::default();
    }

    /// Goes back to replay.
    pub(super) fn fall_behind(&mut self) {
        if self.is_live() {
            self.behind_since = Instant::now();
            self.state = State::CatchingUp { ask: None, not_before: None };
        }
    }

    /// Keeps live entries until replay has come as far; too many are dropped, and replay goes on further.
    pub(super) fn hold(&mut self, batch: Arc<RoomBatch>, entries_max: usize) {
        if self.held_entries + batch.entries().len() > entries_max {
            let dropped = self.held.drain(..).map(|held| held.last().id).max();
            self.held_entries = 0;
            self.missed(batch.last().id.max(dropped.unwrap_or_default()));
        } else {
            self.held_entries += batch.entries().len();
            self.held.push_back(batch);
        }
    }

    /// Live entries up to `id` were dropped: only replay can deliver them.
    pub(super) fn missed(&mut self, id: EntryId) {
        self.must_reach = self.must_reach.max(id);
    }

    /// The log may be another than before: what was held or had to be reached means nothing now.
    pub(super) fn forget_held(&mut self) {
        self.held = VecDeque::new();
        self.held_entries = 0;
        // A join's answer may be older than what was held.
        let joining = matches!(self.state, State::Joining { .. });
        self.must_reach = if joining { EntryId::MAX } else { EntryId::ZERO };
    }

    /// The next live entries that were held.
    pub(super) fn next_held(&mut self) -> Option<Arc<RoomBatch>> {
        let batch = self.held.pop_front()?;
        self.held_entries -= batch.entries().len();
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        Some(batch)
    }

    /// These entries were handed to the socket.
    pub(super) fn delivered(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry.kind {
                EntryKind::Message => self.delivered.push(entry.seq, entry.id),
                EntryKind::Event => self.closed |= closes(entry),
            }
            self.last = entry.cursor();
        }
    }

    /// Whether the room was closed and everything up to there was delivered: then it is to be left.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The id of a delivered message, if it is still known.
    pub(super) fn id_of(&self, seq: u64) -> Option<EntryId> {
        let index = seq.checked_sub(self.delivered.first_seq)?;
        self.delivered.ids.get(usize::try_from(index).ok()?).copied()
    }

    /// Everything up to `seq` was acknowledged: earlier ids are needed no more.
    pub(super) fn acked_upto(&mut self, seq: u64) {
        self.acked = seq;
        let ids = &mut self.delivered;
        while ids.first_seq <= seq && ids.ids.pop_front().is_some() {
            ids.first_seq += 1;
        }
        if ids.ids.is_empty() {
            ids.ids = VecDeque::new();
        }
    }
}

fn closes(entry: &Entry) -> bool {
    let closed = EventName::RoomClosed.as_str();
    matches!(entry.open(), Ok(Item::Event(event)) if event.event == closed)
}

impl Delivered {
    fn push(&mut self, seq: u64, id: EntryId) {
        if self.ids.is_empty() || seq != self.first_seq + self.ids.len() as u64 {
            self.ids.clear();
            self.first_seq = seq;
        }
        if self.ids.len() == DELIVERED_MAX {
            self.ids.pop_front();
            self.first_seq += 1;
        }
        self.ids.push_back(id);
    }
}
