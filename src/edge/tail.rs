//! Reads what comes into the log and hands it to whoever follows its rooms.
//!
//! **Invariant:** an entry of a covered partition is handed out, or [`Tail::reached`] says of the
//! moment after a subscription was registered that it is not past that entry. So whoever replays up to
//! there misses nothing.
//!
//! # Design
//! One reader for all partitions with subscribers: under load one answer of Redis carries many
//! entries. A partition is covered from its end; a blocked read is ended early when one is added.
//! What it has read stays in memory for a while, up to `edge.tail_bytes`, for those who were away for a moment.
//! In a Redis Cluster a command can't take in streams of several slots: there each partition has a
//! lane of its own, which connects when it first has a subscriber.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Gauge};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::broadcast::RoomBatch;
use super::registry::Registry;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId, Partitions, Room};
use crate::publish::Witness;
use crate::stream::{RawEntry, Reader, Redis, Seen, Waker};
use crate::telemetry::names;

/// Entries of one read and partition: beyond about 1,000 the client library parses an answer from
/// its start again and again.
const READ_ENTRIES: u64 = 1_000;
/// Longest blocked read; the reader's time-out is above it.
pub(super) const BLOCK: Duration = Duration::from_millis(1_000);

#[derive(Debug, Default, Clone)]
struct Coverage {
    /// The partition's incarnation, as [`super::watch`] found it last.
    epoch: Option<String>,
    subscribers: usize,
    /// Up to here entries have been handed out; nothing: not covered.
    reached: Option<EntryId>,
}

/// What is tailed, and how far.
pub(super) struct Tail {
    partitions: Mutex<Vec<Coverage>>,
    /// Counts changes of coverage, for those who wait for one.
    changes: watch::Sender<u64>,
    /// One for all partitions, or one each.
    lanes: Vec<Lane>,
    /// Bytes of one partition's log that are kept in memory once they were read.
    kept_bytes: usize,
}

/// A partition that is read on.
struct Covered {
    partition: PartitionId,
    after: EntryId,
    /// The epoch, if it is known: found before what is read now.
    epoch: Option<String>,
}

/// How the reader of a lane hears that a partition is to be covered.
struct Lane {
    entered: Notify,
    /// The same for a reader that has nothing to read yet.
    first: Notify,
    waker: Waker,
}

impl Tail {
    /// The readers that a tail needs, one for each lane.
    pub(super) async fn readers(redis: &Redis, partitions: Partitions) -> Result<Vec<Reader>> {
        let lanes = if redis.is_cluster() { partitions.count() } else { 1 };
        let mut readers = Vec::new();
        for _ in 0..lanes {
            readers.push(redis.reader(BLOCK).await?);
        }
        Ok(readers)
    }

    /// The state of a tail that reads with `readers`.
    pub(super) fn new(partitions: Partitions, readers: &[Reader], kept_bytes: usize) -> Self {
        let coverage = vec![Coverage::default(); usize::from(partitions.count())];
        let lane = |reader: &Reader| Lane { entered: Notify::new(), first: Notify::new(), waker: reader.waker() };
        Self {
            partitions: Mutex::new(coverage),
            changes: watch::Sender::new(0),
            lanes: readers.iter().map(lane).collect(),
            kept_bytes: kept_bytes / usize::from(partitions.count()),
        }
    }

    /// Counts a subscription in a partition; gives whether the partition is covered already.
    pub(super) fn enter(&self, partition: PartitionId) -> bool {
        let mut partitions = self.lock();
        let coverage = &mut partitions[usize::from(partition.0)];
        coverage.subscribers += 1;
        coverage.reached.is_some()
    }

    /// Waits until a partition that was entered is covered.
    pub(super) async fn covered(&self, partition: PartitionId) {
        let mut changes = self.changes.subscribe();
        let lane = &self.lanes[self.lane_of(partition)];
        while self.reached(partition).is_none() {
            lane.entered.notify_one();
            lane.first.notify_one();
            // The state lives as long as the tail, so waiting can't fail.
            let _ = changes.changed().await;
        }
    }

    /// Ends a blocked read whenever a partition is to be covered, until it is dropped.
    pub(super) async fn run_waker(self: Arc<Self>) {
        let lanes = self.lanes.iter().map(async |lane| {
            loop {
                lane.entered.notified().await;
                // If it can't be ended, the read ends by itself within `BLOCK`.
                let _ = lane.waker.unblock().await;
            }
        });
        let _: Vec<()> = futures_util::future::join_all(lanes).await;
    }

    fn lane_of(&self, partition: PartitionId) -> usize {
        usize::from(partition.0) % self.lanes.len()
    }

    /// Takes a subscription out of the count.
    pub(super) fn exit(&self, partition: PartitionId) {
        let mut partitions = self.lock();
        let coverage = &mut partitions[usize::from(partition.0)];
        coverage.subscribers = coverage.subscribers.saturating_sub(1);
    }

    /// Up to where a covered partition has been handed out.
    pub(super) fn reached(&self, partition: PartitionId) -> Option<EntryId> {
        self.lock()[usize::from(partition.0)].reached
    }

    /// Goes on from `after` to `to`; not if it was sent back meanwhile.
    fn go_on(&self, partition: PartitionId, after: EntryId, to: EntryId) -> bool {
        let mut partitions = self.lock();
        let reached = &mut partitions[usize::from(partition.0)].reached;
        let goes_on = *reached == Some(after);
        if goes_on {
            *reached = Some(to);
        }
        goes_on
    }

    /// Goes back to `to`, where the log ends after it lost entries.
    pub(super) fn go_back(&self, partition: PartitionId, to: EntryId) {
        let mut partitions = self.lock();
        let coverage = &mut partitions[usize::from(partition.0)];
        coverage.reached = coverage.reached.map(|reached| reached.min(to));
    }

    /// Notes a partition's epoch, after the tail has gone back to where that log ends.
    pub(super) fn set_epoch(&self, partition: PartitionId, epoch: &str) {
        let mut partitions = self.lock();
        let coverage = &mut partitions[usize::from(partition.0)];
        if coverage.epoch.as_deref() != Some(epoch) {
            coverage.epoch = Some(epoch.to_owned());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Coverage>> {
        // No code that holds the lock can panic half-way through a change.
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Partitions that a lane reads, those to be covered first, and ends the coverage of those nobody follows.
    fn wanted(&self, lane: usize) -> (Vec<Covered>, Vec<Covered>) {
        let (mut covered, mut new) = (Vec::new(), Vec::new());
        for (number, coverage) in (0..).zip(self.lock().iter_mut()) {
            let partition = PartitionId(number);
            if self.lane_of(partition) != lane {
                continue;
            }
            let epoch = coverage.epoch.clone();
            match coverage.reached {
                _ if coverage.subscribers == 0 => coverage.reached = None,
                Some(after) => covered.push(Covered { partition, after, epoch }),
                None => new.push(Covered { partition, after: EntryId::ZERO, epoch }),
            }
        }
        (covered, new)
    }

    fn covered_count(&self) -> usize {
        self.lock().iter().filter(|coverage| coverage.reached.is_some()).count()
    }

    fn set_reached(&self, partition: PartitionId, id: EntryId) {
        self.lock()[usize::from(partition.0)].reached = Some(id);
    }
}

impl Witness for Tail {
    fn seen(&self, partition: PartitionId) -> Option<Seen> {
        let partitions = self.lock();
        let coverage = &partitions[usize::from(partition.0)];
        Some(Seen { epoch: coverage.epoch.clone()?, id: coverage.reached? })
    }
}

/// Hands out what is read, until it is dropped.
pub(super) async fn run(tail: Arc<Tail>, registry: Arc<Registry>, redis: Redis, readers: Vec<Reader>) {
    let mut lanes = JoinSet::new();
    for (lane, reader) in readers.into_iter().enumerate() {
        lanes.spawn(run_lane(tail.clone(), lane, Dispatch::new(registry.clone()), redis.clone(), reader));
    }
    while lanes.join_next().await.is_some() {}
}

async fn run_lane(tail: Arc<Tail>, lane: usize, dispatch: Dispatch, redis: Redis, mut reader: Reader) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match read_once(&tail, lane, &redis, &mut reader, &dispatch).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                // One line for an outage, not one for each attempt.
                if backoff.attempts() == 0 {
                    warn!(%error, "lost the tail of the log, trying again");
                }
                // What answers after this may be a replica that has not all of it.
                redis.forget_tails();
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

async fn read_once(tail: &Tail, lane: usize, redis: &Redis, reader: &mut Reader, dispatch: &Dispatch) -> Result<()> {
    let (mut covered, new) = tail.wanted(lane);
    for mut one in new {
        one.after = redis.newest_id(&redis.keys().log(one.partition)).await?.unwrap_or_default();
        tail.set_reached(one.partition, one.after);
        covered.push(one);
    }
    tail.changes.send_modify(|changes| *changes += 1);
    dispatch.partitions.set(tail.covered_count() as f64);
    if covered.is_empty() {
        let _ = tokio::time::timeout(BLOCK, tail.lanes[lane].first.notified()).await;
        return Ok(());
    }
    let keys: Vec<(String, EntryId)> = covered.iter().map(|one| (redis.keys().log(one.partition), one.after)).collect();
    let read = reader.read(&keys, READ_ENTRIES, BLOCK).await?;
    if reader.has_broken() {
        // What was read before may be another server's, which had more.
        redis.forget_tails();
    }
    for (key, entries) in read {
        let Some(at) = keys.iter().position(|(name, _)| *name == key) else { continue };
        let Covered { partition, after, epoch } = &covered[at];
        let Some(last) = entries.last().map(|entry| entry.id) else { continue };
        // Before handing out: a subscription that registers in between replays a little too much
        // rather than too little.
        if !tail.go_on(*partition, *after, last) {
            continue;
        }
        if let Some(epoch) = epoch {
            redis.keep_tail(*partition, epoch, *after, &entries, tail.kept_bytes);
        }
        dispatch.hand_out(entries);
    }
    Ok(())
}

struct Dispatch {
    registry: Arc<Registry>,
    entries: Counter,
    slow: Counter,
    partitions: Gauge,
}

impl Dispatch {
    fn new(registry: Arc<Registry>) -> Self {
        Self {
            registry,
            entries: metrics::counter!(names::TAIL_ENTRIES),
            slow: metrics::counter!(names::SLOW_READERS_TOTAL),
            partitions: metrics::gauge!(names::TAIL_PARTITIONS),
        }
    }

    /// Groups entries by room, each group in order, and hands them to the rooms' receivers.
    fn hand_out(&self, entries: Vec<RawEntry>) {
        self.entries.increment(entries.len() as u64);
        let mut rooms: HashMap<Room, Vec<Entry>> = HashMap::new();
        for raw in entries {
            if !raw.text("r").is_some_and(|room| self.registry.has_receivers(room)) {
                continue;
            }
            let id = raw.id;
            match raw.into_entry() {
                Ok(mut entry) => {
                    // A slice would keep the whole answer of Redis alive.
                    entry.envelope = bytes::Bytes::copy_from_slice(&entry.envelope);
                    rooms.entry(entry.room.clone()).or_default().push(entry);
                }
                // The next message of its room shows the hole, and replay reports it.
                Err(error) => debug!(entry.id = %id, %error, "left out a corrupt entry of the tail"),
            }
        }
        for entries in rooms.into_values() {
            let dropped = self.registry.deliver(&Arc::new(RoomBatch::new(entries)));
            self.slow.increment(dropped as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a read brings that was under way when the log was found to be shorter is left: it is read again from there.
    #[test]
    fn a_tail_that_was_sent_back_does_not_go_on_from_where_it_was() {
        let (partitions, partition) = (Partitions::new(2).unwrap(), PartitionId(1));
        let tail = Tail::new(partitions, &[], 0);
        let id = |n| EntryId::new(1, n);
        tail.enter(partition);
        tail.set_reached(partition, id(8));
        tail.go_back(partition, id(5));
        assert!(!tail.go_on(partition, id(8), id(9)));
        assert_eq!(tail.reached(partition), Some(id(5)));
        assert!(tail.go_on(partition, id(5), id(9)));
        assert_eq!(tail.reached(partition), Some(id(9)));
    }
}
