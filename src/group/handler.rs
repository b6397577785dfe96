//! What a worker brings: a [`Group`] that opens a [`Handler`] per partition.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

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
        let mut entry = self.raw.entry()?;
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

    /// Deliver this entry again, after a while. It counts: after `group.max_deliveries` the entry is
    /// parked unseen, so this is for what may be the entry's fault. A handler that waits for something
    /// else (a database that is away) keeps the entry and tries again by itself.
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
    validity: Option<Arc<Validity>>,
}

/// Until when a lease is valid by our own monotonic clock.
#[derive(Debug)]
pub(super) struct Validity {
    since: Instant,
    /// Milliseconds after `since`.
    until: AtomicU64,
}

impl Validity {
    pub(super) fn new(until: Instant) -> Arc<Self> {
        let validity = Self { since: Instant::now(), until: AtomicU64::new(0) };
        validity.extend(until);
        Arc::new(validity)
    }

    pub(super) fn extend(&self, until: Instant) {
        let ms = until.saturating_duration_since(self.since).as_millis();
        self.until.fetch_max(u64::try_from(ms).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn until(&self) -> Instant {
        self.since + Duration::from_millis(self.until.load(Ordering::Relaxed))
    }
}

impl Lease {
    /// A lease, held until the sender says otherwise or is dropped.
    pub fn new(partition: PartitionId, token: u64) -> (Self, watch::Sender<bool>) {
        let (say, held) = watch::channel(true);
        (Self { partition, token, held, validity: None }, say)
    }

    /// A lease that also ends by itself, without anybody saying so: a process that was stopped for a
    /// while must not go on as if nothing was.
    pub(super) fn valid_for(
        partition: PartitionId,
        token: u64,
        validity: Arc<Validity>,
    ) -> (Self, watch::Sender<bool>) {
        let (lease, say) = Self::new(partition, token);
        (Self { validity: Some(validity), ..lease }, say)
    }

    /// Whether it is still held, by our own clock.
    pub fn is_held(&self) -> bool {
        let is_valid = self.validity.as_ref().is_none_or(|validity| Instant::now() < validity.until());
        is_valid && *self.held.borrow() && self.held.has_changed().is_ok()
    }

    /// Waits until it is lost.
    pub async fn lost(&self) {
        let mut held = self.held.clone();
        let _ = held.wait_for(|held| !held).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_nobody_renews_is_not_held() {
        let validity = Validity::new(Instant::now() + Duration::from_secs(2));
        let (lease, _say) = Lease::valid_for(PartitionId(0), 1, validity.clone());
        tokio::time::advance(Duration::from_millis(1_900)).await;
        assert!(lease.is_held());
        validity.extend(Instant::now() + Duration::from_secs(2));
        tokio::time::advance(Duration::from_millis(1_900)).await;
        assert!(lease.is_held());
        tokio::time::advance(Duration::from_millis(200)).await;
        assert!(!lease.is_held());
    }

    #[tokio::test]
    async fn a_lease_is_lost_when_its_keeper_says_so_or_is_gone() {
        let (lease, say) = Lease::new(PartitionId(0), 1);
        assert!(lease.is_held());
        say.send(false).unwrap();
        lease.lost().await;
        assert!(!lease.is_held());
        let (lease, say) = Lease::new(PartitionId(0), 2);
        drop(say);
        lease.lost().await;
        assert!(!lease.is_held());
    }
}
