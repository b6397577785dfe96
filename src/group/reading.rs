//! Blocking readers for the partitions that a worker owns in a group: one for all, in a cluster one each.
//!
//! # Design
//! One `XREADGROUP` over all owned streams costs one connection per group and process, and wakes as
//! soon as any of them has something. A partition whose handler is behind is left out of the next read;
//! while one is left out, reads block only briefly, so that it comes back soon. In a Redis Cluster a
//! command can't take in streams of several slots: there each partition has a reader, which connects
//! when the partition is first owned and goes when it is owned no more.
//!
//! **Invariant:** after [`Board::leave`] no read that is under way contains the partition: what the
//! next owner reads was not taken by us.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Histogram, counter, histogram};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::Lease;
use super::gaps::{Part, skipped};
use crate::backoff::Backoff;
use crate::config::GroupSettings;
use crate::error::Kind;
use crate::model::{EntryId, PartitionId, Partitions};
use crate::stream::{GroupReader, RawEntry, Redis};
use crate::telemetry::names;

/// How long a read blocks: a partition that is released waits for the read that contains it.
const BLOCK: Duration = Duration::from_millis(500);
/// How long a read blocks while a partition is left out: first and longest.
const BLOCK_BRIEF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How often is looked whether groups from which nothing comes stand where they were read to.
const QUIET_INTERVAL: Duration = Duration::from_secs(2);
/// Bytes that one read may bring, by the mean size of what came before.
const READ_BYTES: usize = 16 << 20;

/// What a read had for a partition.
#[derive(Debug)]
pub(super) enum Read {
    /// New entries.
    Entries(Vec<RawEntry>),
    /// The read failed: some entries may be pending under our name unseen.
    Failed(Kind),
    /// There are entries before those that the read brought, or the group stands further on than was
    /// read: nothing of the read was passed on.
    Skipped,
}

/// How much a partition has taken and not finished; shared with the reader.
#[derive(Debug, Default)]
pub(super) struct Load {
    /// Entries that wait for the handler.
    pub queued: AtomicUsize,
    /// Entries that are not settled.
    pub unsettled: AtomicUsize,
}

/// The partitions that are to be read.
#[derive(Debug)]
pub(super) struct Board {
    slots: Mutex<Vec<Slot>>,
    changed: watch::Sender<u64>,
    rounds: watch::Sender<u64>,
}

#[derive(Debug)]
struct Slot {
    lease: Lease,
    key: String,
    load: Arc<Load>,
    // Bounded by `group.unsettled_entries` and one read: a partition above it is left out.
    to: mpsc::UnboundedSender<Read>,
    wanted: bool,
    reading: bool,
    /// Up to where it was read, if gaps are looked for.
    read_to: Option<EntryId>,
}

/// What one read is over.
struct Round {
    partitions: Vec<PartitionId>,
    keys: Vec<String>,
    /// Of each, up to where it was read, if gaps are looked for.
    read_to: Vec<Option<EntryId>>,
    left_out: usize,
}

/// What a read brought.
struct Brought {
    streams: Vec<(String, Vec<RawEntry>)>,
    /// Keys of the streams of which it left something out.
    skipped: Vec<String>,
}

impl Board {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { slots: Mutex::default(), changed: watch::Sender::new(0), rounds: watch::Sender::new(0) })
    }

    /// A partition joins; it is not read before it [wants](Board::want) to be.
    pub(super) fn join(&self, lease: &Lease, key: String, load: Arc<Load>) -> mpsc::UnboundedReceiver<Read> {
        let (to, reads) = mpsc::unbounded_channel();
        let mut slots = self.lock();
        slots.retain(|slot| slot.lease.partition != lease.partition);
        slots.push(Slot { lease: lease.clone(), key, load, to, wanted: false, reading: false, read_to: None });
        reads
    }

    /// A partition wants to be read, from the next round on. A read that failed or has a gap ends that.
    /// It has read everything up to `read_to`, if gaps are to be looked for.
    pub(super) fn want(&self, p: PartitionId, read_to: Option<EntryId>) {
        for slot in self.lock().iter_mut().filter(|slot| slot.lease.partition == p) {
            (slot.wanted, slot.read_to) = (true, read_to);
        }
        self.changed.send_modify(|changes| *changes += 1);
    }

    /// A partition is read no more. Returns when no read that contains it is under way.
    pub(super) async fn leave(&self, p: PartitionId) {
        let mut rounds = self.rounds.subscribe();
        for slot in self.lock().iter_mut().filter(|slot| slot.lease.partition == p) {
            slot.wanted = false;
        }
        while self.is_reading(p) {
            let _ = rounds.changed().await;
        }
    }

    fn is_reading(&self, p: PartitionId) -> bool {
        self.lock().iter().any(|slot| slot.lease.partition == p && slot.reading)
    }

    /// A partition is gone. May be called without [`Board::leave`] if the lease is lost anyway.
    pub(super) fn remove(&self, lease: &Lease) {
        self.lock().retain(|slot| slot.lease.partition != lease.partition || slot.lease.token != lease.token);
    }

    /// The partitions on the board with their streams.
    pub(super) fn streams(&self) -> Vec<(PartitionId, String)> {
        self.lock().iter().map(|slot| (slot.lease.partition, slot.key.clone())).collect()
    }

    /// Whether a partition, or any, is on the board.
    fn has(&self, only: Option<PartitionId>) -> bool {
        self.lock().iter().any(|slot| only.is_none_or(|p| p == slot.lease.partition))
    }

    fn begin(&self, only: Option<PartitionId>, settings: &GroupSettings) -> Round {
        let mut round = Round { partitions: Vec::new(), keys: Vec::new(), read_to: Vec::new(), left_out: 0 };
        let is_meant = |slot: &Slot| slot.wanted && only.is_none_or(|p| p == slot.lease.partition);
        for slot in self.lock().iter_mut().filter(|slot| is_meant(slot)) {
            let has_room = slot.load.queued.load(Ordering::Relaxed) < settings.read_entries
                && slot.load.unsettled.load(Ordering::Relaxed) < settings.unsettled_entries;
            // Our own clock decides: whoever was stopped for a while must not read as if nothing was.
            if !has_room || !slot.lease.is_held() {
                round.left_out += 1;
                continue;
            }
            slot.reading = true;
            round.partitions.push(slot.lease.partition);
            round.keys.push(slot.key.clone());
            round.read_to.push(slot.read_to);
        }
        round
    }

    fn finish(&self, round: &Round, read: crate::Result<Brought>) {
        {
            let mut slots = self.lock();
            match read {
                Ok(Brought { streams, skipped }) => {
                    for slot in slots.iter_mut().filter(|slot| skipped.contains(&slot.key)) {
                        slot.wanted = false;
                        let _ = slot.to.send(Read::Skipped);
                    }
                    for (key, entries) in streams.into_iter().filter(|(key, _)| !skipped.contains(key)) {
                        if let Some(slot) = slots.iter_mut().find(|slot| slot.key == key) {
                            slot.read_to = slot.read_to.max(slot.read_to.and(entries.last().map(|last| last.id)));
                            slot.load.queued.fetch_add(entries.len(), Ordering::Relaxed);
                            let _ = slot.to.send(Read::Entries(entries));
                        }
                    }
                }
                Err(error) => {
                    for slot in slots.iter_mut().filter(|slot| round.partitions.contains(&slot.lease.partition)) {
                        slot.wanted = false;
                        let _ = slot.to.send(Read::Failed(error.kind()));
                    }
                }
            }
            let of_round = slots.iter_mut().filter(|slot| round.partitions.contains(&slot.lease.partition));
            of_round.for_each(|slot| slot.reading = false);
        }
        self.rounds.send_modify(|rounds| *rounds += 1);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who reads for whom.
#[derive(Clone)]
pub(super) struct Reading {
    pub redis: Redis,
    pub group: String,
    pub worker: String,
    pub board: Arc<Board>,
    pub settings: GroupSettings,
}

/// Reads for ever what the partitions on the board want. Dropping it may leave entries pending under our
/// name: only when the worker ends.
pub(super) async fn read_all(reading: Reading, partitions: Partitions) {
    if !reading.redis.is_cluster() {
        return reading.read(None).await;
    }
    let mut readers = JoinSet::new();
    for p in partitions.all() {
        let reading = reading.clone();
        readers.spawn(async move { reading.read(Some(p)).await });
    }
    while readers.join_next().await.is_some() {}
}

impl Reading {
    async fn read(&self, only: Option<PartitionId>) {
        loop {
            let mut changed = self.board.changed.subscribe();
            if only.is_none() || self.board.has(only) {
                self.read_while_owned(only).await;
            }
            let _ = tokio::time::timeout(BLOCK, changed.changed()).await;
        }
    }

    /// Reads until the one partition that it reads is owned no more.
    async fn read_while_owned(&self, only: Option<PartitionId>) {
        let (group, settings) = (&self.group, &self.settings);
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut brief = BLOCK_BRIEF.0;
        let mut quiet_at = Instant::now();
        let mut size = Size::new(settings, group);
        let mut reader = connect(&self.redis, &mut backoff).await;
        loop {
            let mut changed = self.board.changed.subscribe();
            let round = self.board.begin(only, settings);
            if round.keys.is_empty() {
                if only.is_some() && !self.board.has(only) {
                    return;
                }
                let wait = if round.left_out > 0 { BLOCK_BRIEF.0 } else { BLOCK };
                let _ = tokio::time::timeout(wait, changed.changed()).await;
                continue;
            }
            brief = if round.left_out > 0 { (brief * 2).min(BLOCK_BRIEF.1) } else { BLOCK_BRIEF.0 };
            let block = if round.left_out > 0 { brief } else { BLOCK };
            let count = size.count(round.keys.len());
            let read = reader.read_group(group, &self.worker, &round.keys, count, block).await;
            let read = match read {
                Ok(streams) => {
                    let quiet_too = quiet_at.elapsed() >= QUIET_INTERVAL;
                    if quiet_too {
                        quiet_at = Instant::now();
                    }
                    look_for_gaps(&self.redis, group, &round, streams, quiet_too).await
                }
                Err(error) => Err(error),
            };
            let failure = read.as_ref().err().map(|error| (error.kind(), error.to_string()));
            if let Ok(brought) = &read {
                size.learn(&brought.streams);
            }
            self.board.finish(&round, read);
            let Some((kind, error)) = failure else {
                backoff.reset();
                continue;
            };
            counter!(names::GROUP_READ_ERRORS, "group" => group.clone(), "kind" => format!("{kind:?}")).increment(1);
            // A missing group is mended by the partition; everything else mends itself or is told once.
            if backoff.attempts() == 0 {
                warn!(group, %error, "failed to read; trying again until it works");
            } else {
                debug!(group, %error, attempts = backoff.attempts(), "failed to read again");
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }
}

async fn look_for_gaps(
    redis: &Redis,
    group: &str,
    round: &Round,
    streams: Vec<(String, Vec<RawEntry>)>,
    quiet_too: bool,
) -> crate::Result<Brought> {
    let entries_of = |key: &str| streams.iter().find(|(name, _)| name == key).map_or(&[][..], |(_, entries)| entries);
    let checked = round.keys.iter().zip(&round.read_to);
    let parts: Vec<Part<'_>> = checked
        .filter_map(|(key, read_to)| Some(Part { key, read_to: (*read_to)?, entries: entries_of(key) }))
        .collect();
    let found = skipped(redis, group, &parts, quiet_too).await?;
    let skipped =
        parts.iter().zip(found).filter(|(_, skipped)| *skipped).map(|(part, _)| part.key.to_owned()).collect();
    Ok(Brought { streams, skipped })
}

async fn connect(redis: &Redis, backoff: &mut Backoff) -> GroupReader {
    loop {
        match redis.group_reader(BLOCK).await {
            Ok(reader) => {
                backoff.reset();
                return reader;
            }
            Err(error) => {
                warn!(%error, "failed to connect a reader; trying again until it works");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// How many entries a read should ask for, so that it stays within [`READ_BYTES`].
struct Size {
    most: usize,
    mean_bytes: usize,
    entries: Histogram,
}

impl Size {
    fn new(settings: &GroupSettings, group: &str) -> Self {
        let entries = histogram!(names::GROUP_READ_ENTRIES, "group" => group.to_owned());
        Self { most: settings.read_entries.max(1), mean_bytes: 512, entries }
    }

    fn count(&self, streams: usize) -> u64 {
        (READ_BYTES / streams.max(1) / self.mean_bytes.max(1)).clamp(1, self.most) as u64
    }

    fn learn(&mut self, streams: &[(String, Vec<RawEntry>)]) {
        let entries: usize = streams.iter().map(|(_, entries)| entries.len()).sum();
        if entries == 0 {
            return;
        }
        let bytes = |entry: &RawEntry| entry.fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let all: usize = streams.iter().flat_map(|(_, entries)| entries).map(bytes).sum();
        // Halfway toward what was seen: large entries are noticed within a read or two.
        self.mean_bytes = usize::midpoint(self.mean_bytes, all / entries).max(64);
        self.entries.record(entries as f64);
    }
}
