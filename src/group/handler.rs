//! What a worker brings: a [`Group`] that opens a [`Handler`] per partition.

use std::future::Future;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId};
use crate::stream::{Keys, RawEntry};

/// A consumer group on one stream per partition.
pub trait Group: Send + Sync + 'static {
    /// What takes the entries of one partition.
    type Handler: Handler;

    /// Its name in Redis, e.g. `archive` or `callback:orders`.
    fn name(&self) -> &str;

    /// The stream of a partition that it reads: the log, unless it says otherwise.
    fn stream(&self, keys: &Keys, partition: PartitionId) -> String {
        keys.log(partition)
    }

    /// Whether entries that are replayed on request (`millstream replay`) come to this group too.
    fn takes_redeliveries(&self) -> bool {
        true
    }

    /// Where the group begins in a partition in which it neither exists nor has a checkpoint.
    fn start(&self, partition: PartitionId) -> impl Future<Output = Result<EntryId>> + Send;

    /// Runs once after the lease of a partition was taken and before anything is read from it.
    /// What it returns takes the entries until the lease ends.
    fn open(&self, lease: Lease, settler: Settler) -> impl Future<Output = Result<Self::Handler>> + Send;
}

/// Takes the entries of one partition, in the order of the log.
pub trait Handler: Send + 'static {
    /// Takes `batch` over. Each delivery is settled exactly once through the [`Settler`], now or
    /// later, in any order. Waiting here is back-pressure: nothing more is read meanwhile.
    ///
    /// May be dropped at an await when the lease is lost: what was not settled comes again, to
    /// whoever owns the partition then.
    fn handle(&mut self, batch: Vec<Delivery>) -> impl Future<Output = ()> + Send;

    /// Finishes what is held, or gives it up unsettled when `grace` is over. The last call.
    /// Not called when the lease was lost: then the handler is dropped and must stop at once.
    fn close(self, grace: Duration) -> impl Future<Output = ()> + Send;
}

/// An entry handed out.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// What settles it: the id in the stream that was read.
    pub id: EntryId,
    /// The entry as Redis gave it.
    pub raw: RawEntry,
    /// How often it was delivered, this time included.
    pub deliveries: u64,
    /// The original's id if it is delivered again on request; it is marked so wherever it goes.
    pub replay_of: Option<EntryId>,
}

impl Delivery {
    /// Reads it as an entry of the log, under its original id.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt): park it.
    pub fn entry(&self) -> Result<Entry> {
        let mut entry = self.raw.clone().into_entry()?;
        if let Some(original) = self.replay_of {
            entry.id = original;
        }
        Ok(entry)
    }
}

/// How an entry ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// Its effect is durable.
    Done,
    /// Not now: deliver it again, after a while.
    Retry,
    /// Never: move it to the dead letters.
    Park {
        /// A word of a closed set, e.g. `corrupt`, `data`, `exhausted`.
        reason: &'static str,
        /// What was wrong, for people.
        error: String,
    },
}

/// Says how entries ended. Cheap to clone; usable from any task.
#[derive(Debug, Clone)]
pub struct Settler {
    outcomes: mpsc::UnboundedSender<(Delivery, Settled)>,
}

impl Settler {
    /// A settler and the runner's end of it. Its length is bounded by `group.unsettled_entries`:
    /// nothing is settled that was not handed out.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<(Delivery, Settled)>) {
        let (outcomes, ended) = mpsc::unbounded_channel();
        (Self { outcomes }, ended)
    }

    /// The effect of this entry is durable.
    pub fn done(&self, delivery: Delivery) {
        self.settle(delivery, Settled::Done);
    }

    /// Deliver this entry again, after a while.
    pub fn retry(&self, delivery: Delivery) {
        self.settle(delivery, Settled::Retry);
    }

    /// Give this entry up: it goes to the dead letters with `reason` (of a closed set) and `error`.
    pub fn park(&self, delivery: Delivery, reason: &'static str, error: impl Into<String>) {
        self.settle(delivery, Settled::Park { reason, error: error.into() });
    }

    /// Says how an entry ended.
    pub fn settle(&self, delivery: Delivery, how: Settled) {
        // A runner that is gone has lost the lease: the next owner gets the entry again.
        let _ = self.outcomes.send((delivery, how));
    }
}

/// The permission to work on a partition.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The partition.
    pub partition: PartitionId,
    /// Grows with each owner.
    pub token: u64,
    held: watch::Receiver<bool>,
}

impl Lease {
    /// A lease, held until the sender says otherwise or is dropped.
    pub fn new(partition: PartitionId, token: u64) -> (Self, watch::Sender<bool>) {
        let (say, held) = watch::channel(true);
        (Self { partition, token, held }, say)
    }

    /// Whether it is still held, by our own clock.
    pub fn is_held(&self) -> bool {
        *self.held.borrow() && self.held.has_changed().is_ok()
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        let mut held = self.held.clone();
        let _ = held.wait_for(|held| !held).await;
    }
}
