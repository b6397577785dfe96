//! Makes endings durable: dead letters first, then acknowledgements with the checkpoint.
//!
//! **Invariant:** an entry is acknowledged only after it was done, or is among the dead letters.
//!
//! # Design
//! An acknowledgement is a call of a script, which costs about as much as a callback itself. So after one
//! the next waits [`INTERVAL`] for endings to come together, unless there are many already. A worker
//! that dies meanwhile has so much more delivered again, as it has for what is being acknowledged.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Group;
use super::lane::Which;
use super::partition::{Acked, Partition, Phase};
use super::worker::Worker;
use crate::backoff::Backoff;
use crate::error::Error;
use crate::model::{EntryId, PartitionId};
use crate::stream::{Acknowledged, DeadLetter, GroupStream, Settlement, Spent};
use crate::telemetry::names;

/// Ids of one call of the script: a call holds up everybody else's.
const ACK_ENTRIES: usize = 2_000;
/// Time from one acknowledgement of a partition to the next.
const INTERVAL: Duration = Duration::from_millis(20);
/// First and longest wait before a settlement is tried again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// What ended in one stream and is to be made durable.
#[derive(Debug)]
pub(super) struct Job {
    pub stream: GroupStream,
    pub spent: Spent,
    /// What is to be acknowledged, the parked ones among them.
    pub acks: Vec<EntryId>,
    pub checkpoint: Option<EntryId>,
    /// Up to where everything was delivered, if the stream has a checkpoint.
    pub delivered: Option<EntryId>,
    pub parks: Vec<Park>,
}

/// An entry that is to be parked.
#[derive(Debug)]
pub(super) struct Park {
    pub letter: DeadLetter,
    /// A word of a closed set.
    pub reason: &'static str,
    /// An earlier owner may have parked it before it died.
    pub perhaps_there: bool,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    Settled,
    /// Another worker owns the partition.
    NotOurs,
}

impl<G: Group> Partition<G> {
    /// Starts to make durable what ended, if nothing is under way, and if it is time or `at_once`.
    pub(super) fn start_flush(&mut self, at_once: bool) {
        let now = Instant::now();
        let enough = at_once || now >= self.flush_after || self.main.ended() + self.again.ended() >= ACK_ENTRIES;
        if !enough || !self.may_flush() {
            return;
        }
        let jobs: Vec<(Which, Job)> = [&mut self.main, &mut self.again]
            .into_iter()
            .filter_map(|lane| lane.job().map(|job| (lane.which, job)))
            .collect();
        if jobs.is_empty() {
            return;
        }
        self.flush_after = now + INTERVAL;
        let acked = jobs.iter().map(|(which, job)| (*which, job.acks.clone())).collect();
        let jobs = jobs.into_iter().map(|(_, job)| job).collect();
        let (worker, p, token) = (self.worker.clone(), self.lease.partition, self.lease.token);
        self.flushing = Some(Box::pin(async move { (flush(worker, p, token, jobs).await, acked) }));
    }

    /// When what ended is to be made durable; nothing if an answer wakes us first.
    pub(super) fn flush_due(&mut self) -> Option<Instant> {
        let waits = self.may_flush() && (self.main.has_job() || self.again.has_job());
        waits.then_some(self.flush_after)
    }

    fn may_flush(&self) -> bool {
        self.flushing.is_none() && !matches!(self.phase, Phase::Opening | Phase::Preparing)
    }

    pub(super) fn flushed(&mut self, acked: Acked) {
        self.flushing = None;
        for (which, ids) in acked {
            self.lane(which).settled(&ids);
        }
    }
}

/// Makes `jobs` durable, trying until it works or the partition isn't ours. May be dropped at any
/// await: what was not acknowledged comes again, what was parked may be parked twice.
pub(super) async fn flush(worker: Arc<Worker>, partition: PartitionId, token: u64, jobs: Vec<Job>) -> Flushed {
    for job in jobs {
        for park in &job.parks {
            make_parked(&worker, park).await;
        }
        let mut chunks = job.acks.chunks(ACK_ENTRIES).peekable();
        // A checkpoint may move without an acknowledgement: over what earlier owners settled.
        let mut next = chunks.next().or(Some(&[]));
        while let Some(ids) = next {
            next = chunks.next();
            let checkpoint = if next.is_none() { job.checkpoint } else { None };
            let (stream, delivered, spent) = (&job.stream, job.delivered, job.spent);
            let settlement = Settlement { stream, partition, token, ids, checkpoint, delivered, spent };
            if acknowledge(&worker, &settlement).await == Acknowledged::NotOurs {
                return Flushed::NotOurs;
            }
        }
        worker.meters.done.increment((job.acks.len() - job.parks.len()) as u64);
    }
    Flushed::Settled
}

async fn make_parked(worker: &Worker, park: &Park) {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    let mut perhaps_there = park.perhaps_there;
    while let Err(error) =
        worker.redis.park(&worker.group, &park.letter, worker.settings.dead_entries, perhaps_there).await
    {
        told(worker, &error, backoff.attempts(), "failed to park an entry; trying again until it works");
        perhaps_there |= error.is_unclear();
        tokio::time::sleep(backoff.next()).await;
    }
    counter!(names::GROUP_PARKED, "group" => worker.group.clone(), "reason" => park.reason).increment(1);
    let letter = &park.letter;
    info!(group = worker.group, partition = %letter.partition, entry.id = %letter.original, reason = park.reason,
        attempts = letter.attempts, "parked entry {}", letter.original);
}

async fn acknowledge(worker: &Worker, settlement: &Settlement<'_>) -> Acknowledged {
    let mut backoff = Backoff::new(BACKOFF.0, BACKOFF.1);
    loop {
        let began = Instant::now();
        match worker.redis.settle(settlement).await {
            Ok(acknowledged) => {
                worker.meters.ack_seconds.record(began.elapsed());
                return acknowledged;
            }
            Err(error) => {
                told(worker, &error, backoff.attempts(), "failed to acknowledge entries; trying again until it works");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Logs the first failure of a row for operators, the others for who looks closely.
fn told(worker: &Worker, error: &Error, attempts: u32, what: &str) {
    if attempts == 0 {
        warn!(group = worker.group, %error, "{what}");
    } else {
        debug!(group = worker.group, %error, attempts, "{what}");
    }
}
