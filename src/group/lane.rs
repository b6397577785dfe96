//! One stream of a partition as its owner sees it: what is held, what is to be acknowledged.
//!
//! A partition has two lanes: the group's stream itself, and the copies that are delivered again on
//! request, which come when the first has nothing.

use std::collections::{BTreeMap, HashSet};

use super::pending::Pending;
use super::settle::{Job, Park};
use super::worker::now_ms;
use super::{Delivery, Settled};
use crate::model::{EntryId, PartitionId};
use crate::stream::{DeadLetter, GroupStream, RawEntry, Spent};

/// Why an entry is parked before a handler sees it again.
pub(super) const EXHAUSTED: &str = "exhausted_deliveries";
/// Why a copy without its original's id is parked.
pub(super) const CORRUPT: &str = "corrupt";

/// Which lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Which {
    /// The group's stream.
    Main,
    /// Copies that are delivered again on request.
    Again,
}

impl Which {
    /// The lane that a delivery came from.
    pub(super) fn of(delivery: &Delivery) -> Self {
        if delivery.replay_of.is_some() { Self::Again } else { Self::Main }
    }
}

/// One stream of a partition.
#[derive(Debug)]
pub(super) struct Lane {
    pub which: Which,
    pub partition: PartitionId,
    pub stream: GroupStream,
    pub pending: Pending,
    spent: Spent,
    /// Whether its position is the group's checkpoint in the log.
    checkpointed: bool,
    written: EntryId,
    acks: Vec<EntryId>,
    parks: Vec<Park>,
    /// Ended and not yet acknowledged: Redis still tells them as pending.
    settling: HashSet<EntryId>,
}

/// What became of a settled delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settling {
    /// It is to be acknowledged.
    Ended,
    /// It is to be delivered again; it was delivered so often.
    Again(u64),
    /// It was settled before.
    Unknown,
}

impl Lane {
    pub(super) fn main(partition: PartitionId, stream: GroupStream, is_log: bool, checkpoint: EntryId) -> Self {
        // A stream that is not the log is read by nobody else.
        let spent = if is_log { Spent::Keep } else { Spent::Delete };
        Self::new(Which::Main, partition, stream, spent, is_log, checkpoint)
    }

    pub(super) fn again(partition: PartitionId, stream: GroupStream) -> Self {
        Self::new(Which::Again, partition, stream, Spent::DeleteStream, false, EntryId::ZERO)
    }

    fn new(
        which: Which,
        partition: PartitionId,
        stream: GroupStream,
        spent: Spent,
        checkpointed: bool,
        checkpoint: EntryId,
    ) -> Self {
        let pending = Pending::new(checkpoint);
        Self {
            which,
            partition,
            stream,
            pending,
            spent,
            checkpointed,
            written: checkpoint,
            acks: Vec::new(),
            parks: Vec::new(),
            settling: HashSet::new(),
        }
    }

    /// Whether it is the log.
    pub(super) fn is_log(&self) -> bool {
        self.checkpointed
    }

    /// Begins at the checkpoint that an earlier owner wrote.
    pub(super) fn begin(&mut self, checkpoint: EntryId) {
        self.pending = Pending::new(checkpoint);
        self.written = checkpoint;
    }

    /// Takes an entry that Redis delivered. Nothing if it is held or ended already, or if it is parked
    /// unseen: delivered more than `max_deliveries` times, or unreadable as a copy.
    pub(super) fn accept(&mut self, raw: RawEntry, deliveries: u64, max_deliveries: u64) -> Option<Delivery> {
        let id = raw.id;
        if self.settling.contains(&id) || !self.pending.deliver(id, deliveries, now_ms()) {
            return None;
        }
        self.offer(raw, deliveries, max_deliveries)
    }

    /// Takes an entry that is held and was read once more.
    pub(super) fn accept_again(&mut self, raw: RawEntry, deliveries: u64, max_deliveries: u64) -> Option<Delivery> {
        // Settled meanwhile, by a task that outlived its handler's panic.
        self.pending.get(raw.id)?;
        self.pending.deliver(raw.id, deliveries, now_ms());
        self.offer(raw, deliveries, max_deliveries)
    }

    fn offer(&mut self, raw: RawEntry, deliveries: u64, max_deliveries: u64) -> Option<Delivery> {
        let original = raw.text("i").and_then(|original| original.parse().ok());
        let replay_of = match self.which {
            Which::Main => None,
            Which::Again => Some(original.unwrap_or(raw.id)),
        };
        let delivery = Delivery { id: raw.id, raw, deliveries, replay_of };
        let refused = if deliveries > max_deliveries {
            Some((EXHAUSTED, format!("delivered {} times and never settled", deliveries - 1)))
        } else if self.which == Which::Again && original.is_none() {
            Some((CORRUPT, "a copy without the id of its original".to_owned()))
        } else {
            None
        };
        match refused {
            Some((reason, error)) => {
                self.settle(delivery, Settled::Park { reason, error });
                None
            }
            None => Some(delivery),
        }
    }

    /// Takes the ending of a delivery.
    pub(super) fn settle(&mut self, delivery: Delivery, how: Settled) -> Settling {
        let id = delivery.id;
        let Some(held) = self.pending.get(id).copied() else { return Settling::Unknown };
        match how {
            Settled::Retry => return Settling::Again(held.deliveries),
            Settled::Park { reason, error } => {
                let letter = DeadLetter {
                    partition: self.partition,
                    original: delivery.replay_of.unwrap_or(id),
                    reason: reason.to_owned(),
                    error,
                    attempts: held.deliveries,
                    first_ms: held.first_ms,
                    last_ms: now_ms(),
                    fields: delivery.raw.fields,
                };
                self.parks.push(Park { letter, reason, perhaps_there: held.deliveries > 1 });
            }
            Settled::Done => {}
        }
        self.end(id);
        Settling::Ended
    }

    /// An entry is gone from the stream: there is nothing left to settle but its place.
    pub(super) fn gone(&mut self, id: EntryId) {
        if self.pending.get(id).is_some() {
            self.end(id);
        }
    }

    fn end(&mut self, id: EntryId) {
        self.pending.settle(id);
        self.settling.insert(id);
        self.acks.push(id);
    }

    /// Whether an entry is neither held nor ended: if it is pending all the same, nobody has it.
    pub(super) fn is_stray(&self, id: EntryId) -> bool {
        self.pending.get(id).is_none() && !self.settling.contains(&id)
    }

    /// How many endings are to be acknowledged.
    pub(super) fn ended(&self) -> usize {
        self.acks.len()
    }

    /// Whether there is something to be made durable.
    pub(super) fn has_job(&mut self) -> bool {
        !self.acks.is_empty() || (self.checkpointed && self.pending.checkpoint() > self.written)
    }

    /// What is to be made durable now, if anything.
    pub(super) fn job(&mut self) -> Option<Job> {
        let checkpoint = self.pending.checkpoint();
        let moved = self.checkpointed && checkpoint > self.written;
        if self.acks.is_empty() && !moved {
            return None;
        }
        if moved {
            self.written = checkpoint;
        }
        Some(Job {
            stream: self.stream.clone(),
            spent: self.spent,
            acks: std::mem::take(&mut self.acks),
            delivered: self.checkpointed.then_some(self.pending.last()).filter(|last| *last > EntryId::ZERO),
            checkpoint: (self.checkpointed && checkpoint > EntryId::ZERO).then_some(checkpoint),
            parks: std::mem::take(&mut self.parks),
        })
    }

    /// A job's entries are acknowledged.
    pub(super) fn settled(&mut self, ids: &[EntryId]) {
        for id in ids {
            self.settling.remove(id);
        }
    }

    /// What is held, by how often each counts as delivered when it is handed back: the delivery that
    /// was not finished doesn't count, because stopping is no failure of the entry.
    pub(super) fn unfinished(&self) -> BTreeMap<u64, Vec<EntryId>> {
        let mut by_deliveries: BTreeMap<u64, Vec<EntryId>> = BTreeMap::new();
        for (id, held) in self.pending.iter() {
            by_deliveries.entry(held.deliveries.saturating_sub(1)).or_default().push(id);
        }
        by_deliveries
    }
}
