//! What is known in this process to be in the log: who writes to it compares that first.

use std::sync::{Arc, Mutex, PoisonError};

use crate::model::{EntryId, PartitionId, Partitions};
use crate::stream::Seen;

/// Somebody in the process who reads the log.
pub trait Witness: Send + Sync {
    /// The newest entry of a partition that it has read.
    fn seen(&self, partition: PartitionId) -> Option<Seen>;
}

/// The newest entries that were stored and read here, by partition.
pub struct Known {
    stored: Vec<Mutex<Option<Seen>>>,
    witness: Option<Arc<dyn Witness>>,
}

impl Known {
    /// Nothing is stored yet.
    pub fn new(partitions: Partitions, witness: Option<Arc<dyn Witness>>) -> Arc<Self> {
        let stored = (0..partitions.count()).map(|_| Mutex::default()).collect();
        Arc::new(Self { stored, witness })
    }

    /// The newest entries that anybody here knows to be in the log: one, or two of different epochs. Which of these
    /// is over is for the script to see: the witness hears of a new one even if nothing is published, but a while
    /// after whoever publishes.
    pub fn seen(&self, partition: PartitionId) -> Vec<Seen> {
        let read = self.witness.as_ref().and_then(|witness| witness.seen(partition));
        let stored = self.of(partition).lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (stored, read) {
            (Some(stored), Some(read)) if stored.epoch == read.epoch => {
                vec![if stored.id > read.id { stored } else { read }]
            }
            (stored, read) => stored.into_iter().chain(read).collect(),
        }
    }

    /// A call found this epoch, and stored entries up to `newest`, or none.
    pub(super) fn keep(&self, partition: PartitionId, epoch: String, newest: Option<EntryId>) {
        let mut stored = self.of(partition).lock().unwrap_or_else(PoisonError::into_inner);
        // In another epoch, what was stored in the one before says nothing.
        let before = stored.take().filter(|before| before.epoch == epoch).map(|before| before.id);
        *stored = newest.max(before).map(|id| Seen { epoch, id });
    }

    fn of(&self, partition: PartitionId) -> &Mutex<Option<Seen>> {
        &self.stored[usize::from(partition.0)]
    }
}
