//! Writes one partition's batches, in the order of the log, one after the other.
//!
//! **Invariant:** an entry is settled as done only after the commit that holds its row, and as parked
//! only if its own data can't be stored. Whatever else goes wrong is waited for, and the log holds
//! the backlog.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};

use super::gathering::{Cause, Gathering, Held, Limits};
use super::summary::{Committed, Summary};
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};
use crate::fault::{self, Fault};
use crate::group::{Delivery, Lease, Settler};
use crate::model::{EntryId, PartitionId};
use crate::store::{Batch, Inserted, Ownership, Store};
use crate::stream::Redis;

/// How often a writer that holds something looks whether a flush is wished for.
const FLUSH_POLL: Duration = Duration::from_millis(100);
/// First and longest wait before a transaction is repeated.
const REPEAT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Repeats between two lines of log about the same trouble: about one a minute.
const REPEATS_PER_LINE: u32 = 12;

/// What the writers of a process share.
pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) redis: Redis,
    pub(super) limits: Limits,
    /// Transactions that run side by side.
    pub(super) permits: Semaphore,
    pub(super) summary: Arc<Summary>,
}

/// The token of the partition's owner in Postgres; shared with the caretaker.
#[derive(Debug, Clone)]
pub(super) struct Token(Arc<AtomicU64>);

impl Token {
    pub(super) fn new(owner: Ownership) -> Self {
        Self(Arc::new(AtomicU64::new(owner.token)))
    }

    pub(super) fn owner(&self, partition: PartitionId) -> Ownership {
        Ownership { partition, token: self.0.load(Ordering::Relaxed) }
    }
}

/// The lease is lost: everything held comes again, to whoever owns the partition now.
struct Lost;

enum Commit {
    Done(Inserted, Duration),
    /// An entry among them can't be opened, or its row can't be stored.
    BadData(Error),
}

pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) lease: Lease,
    pub(super) token: Token,
    pub(super) settler: Settler,
    /// Up to where the archive has everything; read by the caretaker.
    pub(super) archived: watch::Sender<EntryId>,
}

enum Woken {
    More(Vec<Delivery>),
    Closed,
    Time,
    Poll,
}

impl Writer {
    /// Writes what comes until the sender is dropped and everything is written, or the lease is lost.
    pub(super) async fn run(self, mut incoming: mpsc::Receiver<Vec<Delivery>>) {
        let mut gathering = Gathering::new(self.shared.limits);
        let _stuck = ForgetStuck(&self.shared.summary, self.lease.partition);
        let ended = self.work(&mut gathering, &mut incoming).await;
        if ended.is_err() {
            info!(partition = %self.lease.partition, rows = gathering.len(),
                "stopped writing partition {}: its lease is lost", self.lease.partition);
        }
        self.shared.summary.held(-(gathering.len() as i64));
    }

    async fn work(&self, gathering: &mut Gathering, incoming: &mut mpsc::Receiver<Vec<Delivery>>) -> Result<(), Lost> {
        let mut poll = interval(FLUSH_POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // Nothing is lost when an arm is dropped: a receive takes a batch out only when it is chosen.
            let woken = tokio::select! {
                () = self.lease.lost() => return Err(Lost),
                more = incoming.recv() => more.map_or(Woken::Closed, Woken::More),
                () = at(gathering.deadline()) => Woken::Time,
                _ = poll.tick(), if !gathering.is_empty() => Woken::Poll,
            };
            let mut flush = None;
            match woken {
                Woken::More(batch) => self.take_in(gathering, incoming, batch),
                Woken::Closed => return self.write_all(gathering).await,
                Woken::Poll => flush = self.flush_asked().await,
                Woken::Time => (),
            }
            while let Some(cause) = gathering.due(Instant::now(), flush) {
                self.write(gathering.take(), cause).await?;
                // What came meanwhile makes the next batch larger.
                while !gathering.is_full()
                    && let Ok(batch) = incoming.try_recv()
                {
                    self.take_in(gathering, incoming, batch);
                }
            }
        }
    }

    fn take_in(&self, gathering: &mut Gathering, incoming: &mut mpsc::Receiver<Vec<Delivery>>, batch: Vec<Delivery>) {
        let before = gathering.len();
        gathering.push(batch, Instant::now());
        while !gathering.is_full()
            && let Ok(batch) = incoming.try_recv()
        {
            gathering.push(batch, Instant::now());
        }
        self.shared.summary.held((gathering.len() - before) as i64);
    }

    async fn write_all(&self, gathering: &mut Gathering) -> Result<(), Lost> {
        while !gathering.is_empty() {
            self.write(gathering.take(), Cause::Stop).await?;
        }
        Ok(())
    }

    async fn flush_asked(&self) -> Option<EntryId> {
        // Without an answer nothing is flushed now; who wished for it repeats the wish.
        self.shared.redis.flush_asked(self.lease.partition).await.unwrap_or_default()
    }

    /// Writes and settles a batch, halving it as often as it takes to find a row that can't be stored.
    async fn write(&self, held: Vec<Held>, cause: Cause) -> Result<(), Lost> {
        if fault::active(Fault::XackBeforeCommit) {
            held.iter().for_each(|held| self.settler.done(held.delivery.clone()));
        }
        let mut parts = vec![held];
        while let Some(mut part) = parts.pop() {
            match self.commit(&part).await? {
                Commit::Done(inserted, took) => self.settle(part, cause, inserted, took),
                Commit::BadData(error) if part.len() == 1 => {
                    let reason = if error.kind() == Kind::Corrupt { "corrupt" } else { "data" };
                    part[0].bad = Some((reason, error.to_string()));
                    // Again without its row, so that the checkpoint passes it.
                    parts.push(part);
                }
                Commit::BadData(_) => {
                    let second = part.split_off(part.len() / 2);
                    parts.extend([second, part]);
                }
            }
        }
        Ok(())
    }

    /// Commits the rows of `part` and the checkpoint after it, however long Postgres takes to come back.
    async fn commit(&self, part: &[Held]) -> Result<Commit, Lost> {
        let upto = part.iter().filter_map(Held::place).max().unwrap_or_default();
        let mut backoff = Backoff::new(REPEAT.0, REPEAT.1);
        loop {
            let begun = Instant::now();
            let error = match self.try_commit(part, upto).await {
                Ok(inserted) => {
                    self.archived.send_modify(|archived| *archived = upto.max(*archived));
                    self.shared.summary.is_written(self.lease.partition);
                    self.say_recovered(&backoff);
                    return Ok(Commit::Done(inserted, begun.elapsed()));
                }
                Err(error) => error,
            };
            let is_of_the_data = matches!(error.kind(), Kind::PostgresData | Kind::Corrupt);
            if is_of_the_data && part.iter().any(|held| held.row().is_some()) {
                return Ok(Commit::BadData(error));
            }
            self.shared.summary.failed(self.lease.partition, &error);
            self.say_failed(&error, &backoff, part.len());
            let fenced = error.kind() == Kind::Fenced;
            tokio::select! {
                () = self.lease.lost() => return Err(Lost),
                () = sleep(backoff.next()) => (),
            }
            if fenced && backoff.attempts() > FENCED_PATIENCE {
                self.take_again().await;
            }
        }
    }

    async fn try_commit(&self, part: &[Held], upto: EntryId) -> Result<Inserted> {
        // What is delivered again on request, or after a commit that nobody acknowledged, is there already.
        let archived = *self.archived.borrow();
        let is_new = part.iter().all(|held| held.place().is_some_and(|place| place > archived));
        let batch = Batch::of(part.iter().filter_map(Held::row))?.probably_new(is_new);
        let stopped = |e| Error::internal("wait for a turn to write").caused_by(e);
        let _permit = self.shared.permits.acquire().await.map_err(stopped)?;
        self.shared.store.commit_batch(&batch, self.token.owner(self.lease.partition), upto).await
    }

    /// Somebody else took the partition over in Postgres although the lease is still ours: a worker
    /// that paused between taking its lease and the partition, and has lost the lease since.
    async fn take_again(&self) {
        if let Ok((owner, _)) = self.shared.store.take_over(self.lease.partition).await {
            self.token.0.store(owner.token, Ordering::Relaxed);
        }
    }

    fn settle(&self, part: Vec<Held>, cause: Cause, inserted: Inserted, commit: Duration) {
        let age = part.first().map_or(Duration::ZERO, |first| first.since.elapsed());
        let (entries, mut parked) = (part.len(), 0);
        for held in part {
            match held.bad {
                Some((reason, error)) => {
                    parked += 1;
                    self.settler.park(held.delivery, reason, error);
                }
                None => self.settler.done(held.delivery),
            }
        }
        self.shared.summary.held(-(entries as i64));
        let partition = self.lease.partition;
        self.shared.summary.committed(&Committed { partition, cause, entries, inserted, parked, age, commit });
    }

    fn say_failed(&self, error: &Error, backoff: &Backoff, rows: usize) {
        if backoff.attempts().is_multiple_of(REPEATS_PER_LINE) {
            let partition = self.lease.partition;
            warn!(%partition, rows, %error, attempts = backoff.attempts() + 1,
                "could not write partition {partition}: its rows wait in the log");
        }
    }

    fn say_recovered(&self, backoff: &Backoff) {
        if backoff.attempts() > 0 {
            let partition = self.lease.partition;
            info!(%partition, attempts = backoff.attempts() + 1, "writing partition {partition} again");
        }
    }
}

/// However the writer ends, also by being dropped: what keeps others from writing is theirs to say.
struct ForgetStuck<'a>(&'a Summary, PartitionId);

impl Drop for ForgetStuck<'_> {
    fn drop(&mut self) {
        self.0.is_written(self.1);
    }
}

/// Refusals of our token that are waited out before it is renewed: about 6 s, longer than a lost
/// lease takes to be noticed.
const FENCED_PATIENCE: u32 = 6;

async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
