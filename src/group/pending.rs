//! What was delivered and not settled, and up to where everything is. Pure.
//!
//! **Invariant:** everything up to [`Pending::checkpoint`] that was delivered has been settled.

use std::collections::BTreeMap;

use crate::model::EntryId;

/// An entry that was delivered and not settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Held {
    /// How often it was delivered, this time included.
    pub deliveries: u64,
    /// When this owner first got it; milliseconds of Unix time.
    pub first_ms: u64,
    /// The id that was delivered before it: the checkpoint while this is the oldest that is held.
    before: EntryId,
}

/// The entries of one stream that were delivered and not settled.
#[derive(Debug)]
pub(super) struct Pending {
    checkpoint: EntryId,
    last: EntryId,
    held: BTreeMap<EntryId, Held>,
}

impl Pending {
    /// Nothing is held; everything up to `checkpoint` is settled.
    pub(super) fn new(checkpoint: EntryId) -> Self {
        Self { checkpoint, last: checkpoint, held: BTreeMap::new() }
    }

    /// An entry was delivered. `false`: it is held already.
    pub(super) fn deliver(&mut self, id: EntryId, deliveries: u64, now_ms: u64) -> bool {
        if let Some(held) = self.held.get_mut(&id) {
            held.deliveries = held.deliveries.max(deliveries);
            return false;
        }
        // One that comes late stands somewhere between others: only the checkpoint is sure.
        let before = if id > self.last { self.last } else { self.checkpoint };
        self.last = self.last.max(id);
        self.held.insert(id, Held { deliveries, first_ms: now_ms, before });
        true
    }

    /// Everything up to `id` was delivered: it is held, or was settled by an earlier owner.
    pub(super) fn pass(&mut self, id: EntryId) {
        self.last = self.last.max(id);
    }

    /// An entry was settled. Nothing if it isn't held.
    pub(super) fn settle(&mut self, id: EntryId) -> Option<Held> {
        self.held.remove(&id)
    }

    /// Up to where everything is settled. Never goes back.
    pub(super) fn checkpoint(&mut self) -> EntryId {
        let now = self.held.first_key_value().map_or(self.last, |(_, held)| held.before);
        self.checkpoint = self.checkpoint.max(now);
        self.checkpoint
    }

    /// The newest id that was delivered.
    pub(super) fn last(&self) -> EntryId {
        self.last
    }

    /// What is held of an entry.
    pub(super) fn get(&self, id: EntryId) -> Option<&Held> {
        self.held.get(&id)
    }

    /// The entries that are held, oldest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = (EntryId, Held)> + '_ {
        self.held.iter().map(|(id, held)| (*id, *held))
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId::new(ms, 0)
    }

    #[test]
    fn the_checkpoint_waits_for_the_oldest_that_is_held() {
        let mut pending = Pending::new(id(1));
        for ms in [2, 5, 6] {
            assert!(pending.deliver(id(ms), 1, 0));
        }
        pending.settle(id(5));
        assert_eq!(pending.checkpoint(), id(1));
        pending.settle(id(2));
        assert_eq!(pending.checkpoint(), id(5));
        pending.settle(id(6));
        assert_eq!(pending.checkpoint(), id(6));
    }

    #[test]
    fn what_is_held_is_not_delivered_a_second_time() {
        let mut pending = Pending::new(EntryId::ZERO);
        assert!(pending.deliver(id(2), 1, 7));
        assert!(!pending.deliver(id(2), 2, 8));
        assert_eq!(pending.settle(id(2)).map(|held| (held.deliveries, held.first_ms)), Some((2, 7)));
        assert_eq!(pending.settle(id(2)), None);
    }

    #[test]
    fn what_earlier_owners_settled_is_passed() {
        let mut pending = Pending::new(id(4));
        pending.deliver(id(5), 2, 0);
        pending.pass(id(10));
        assert_eq!(pending.checkpoint(), id(4));
        pending.settle(id(5));
        assert_eq!(pending.checkpoint(), id(10));
    }

    proptest! {
        /// Whatever the order of deliveries and settlements: nothing at or before the checkpoint is held.
        #[test]
        fn nothing_up_to_the_checkpoint_is_held(steps in prop::collection::vec((0_u64..50, any::<bool>()), 0..200)) {
            let mut pending = Pending::new(EntryId::ZERO);
            let mut known = EntryId::ZERO;
            for (ms, deliver) in steps {
                // An entry at or before the checkpoint is never delivered for the first time.
                if deliver && id(ms) > known {
                    pending.deliver(id(ms), 1, 0);
                } else {
                    pending.settle(id(ms));
                }
                let checkpoint = pending.checkpoint();
                prop_assert!(checkpoint >= known);
                known = checkpoint;
                prop_assert!(pending.iter().all(|(id, _)| id > checkpoint));
            }
        }
    }
}
