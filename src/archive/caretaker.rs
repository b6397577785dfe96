//! What the owner of a partition does beside archiving it, with the archive's lease as permission:
//! misses what is archived if the log has lost it, keeps the groups' checkpoints in Postgres, copies what a
//! wiped log owes them, ends stays, trims the log, and says how far the archive is behind.
//!
//! A chore that fails is tried again at its next turn; it never holds up another or the writer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::initialise;
use super::writer::{Shared, Token};
use crate::config::Settings;
use crate::error::Result;
use crate::group::{Lease, position, trim};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::presence;
use crate::store::{ARCHIVE, Range};
use crate::stream::{Owed, Positions};
use crate::telemetry::names;

/// How often it looks after the partition.
const TURN: Duration = Duration::from_secs(1);
/// How often it is measured how far the archive is behind.
const MEASURE_INTERVAL: Duration = Duration::from_secs(2);
/// Entries that are counted for that at most: their payloads travel.
const MEASURED_MAX: u64 = 10_000;
/// Entries of one copy to a group that is owed them.
const OWED_PER_STEP: u32 = 500;
/// Entries that may wait in a redeliver stream before no more are copied into it.
const OWED_WAITING_MAX: u64 = 5_000;

pub(super) struct Caretaker {
    pub(super) shared: Arc<Shared>,
    pub(super) settings: Arc<Settings>,
    pub(super) partitions: Partitions,
    pub(super) lease: Lease,
    pub(super) token: Token,
    /// Up to where the archive has everything, as the writer says.
    pub(super) archived: watch::Receiver<EntryId>,
}

/// What it remembers between turns.
struct Memory {
    /// Checkpoints as they are in Postgres.
    saved: HashMap<String, EntryId>,
    next_measure: Instant,
    next_trim: Instant,
    /// Chores whose last turn failed: each is logged when that begins and when it is over.
    failing: HashMap<&'static str, u32>,
}

impl Caretaker {
    /// Looks after the partition until the lease is lost. Dropping it loses nothing.
    pub(super) async fn run(self) {
        let partition = self.lease.partition;
        let now = Instant::now();
        let mut memory = Memory { saved: HashMap::new(), next_measure: now, next_trim: now, failing: HashMap::new() };
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let _lag = ForgetLag(&self.shared, partition);
        loop {
            tokio::select! {
                () = self.lease.lost() => return,
                _ = turns.tick() => (),
            }
            self.turn(&mut memory).await;
        }
    }

    async fn turn(&self, memory: &mut Memory) {
        let p = self.lease.partition;
        match self.positions().await {
            Ok(Some(positions)) => {
                let kept = self.keep_checkpoints(&positions, &mut memory.saved).await;
                memory.report("keep the checkpoints", p, kept);
                let copied = self.copy_owed(&positions).await;
                memory.report("copy what is owed", p, copied);
                let swept = self.sweep().await;
                memory.report("end stays", p, swept);
            }
            Ok(None) => {
                let given_up = self.give_up().await;
                memory.report("give up", p, given_up);
            }
            Err(error) => memory.report("look after", p, Err(error)),
        }
        if memory.next_measure <= Instant::now() {
            memory.next_measure = Instant::now() + MEASURE_INTERVAL;
            let measured = self.measure().await;
            memory.report("measure the lag", p, measured);
        }
        if memory.next_trim <= Instant::now() {
            memory.next_trim = Instant::now() + *self.settings.retention.interval;
            let trimmed = self.trim().await;
            memory.report("trim the log", p, trimmed);
        }
    }

    /// What the partition says of its groups; nothing if it isn't initialised, or has to be again: then what it says
    /// of them is older than what is known.
    async fn positions(&self) -> Result<Option<Positions>> {
        let p = self.lease.partition;
        let archived = *self.archived.borrow();
        if initialise::compare(&self.shared, p, archived).await? {
            return Ok(None);
        }
        self.shared.redis.positions(p).await
    }

    /// Copies changed checkpoints into Postgres, and forgets groups that were removed.
    async fn keep_checkpoints(&self, positions: &Positions, saved: &mut HashMap<String, EntryId>) -> Result<()> {
        let p = self.lease.partition;
        let store = &self.shared.store;
        if saved.is_empty() {
            let known = store.checkpoints(p).await?;
            saved.extend(known.into_iter().map(|checkpoint| (checkpoint.group, checkpoint.id)));
        }
        let mut changed = Vec::new();
        for (group, id) in &positions.checkpoints {
            let known = group == ARCHIVE || saved.get(group) == Some(id);
            // Until it has everything that it is owed, the group's place is where that begins.
            if !known && !self.is_owed(positions, group).await? {
                changed.push((group.clone(), *id));
            }
        }
        if !changed.is_empty() {
            store.save_checkpoints(self.token.owner(p), &changed).await?;
            saved.extend(changed);
        }
        // In neither place of Redis, which says that it is initialised: removed on purpose.
        let is_gone = |group: &str| {
            !positions.groups.iter().any(|name| name == group)
                && !positions.checkpoints.iter().any(|(name, _)| name == group)
        };
        let gone: Vec<String> = saved.keys().filter(|group| *group != ARCHIVE && is_gone(group)).cloned().collect();
        for group in gone {
            store.forget_group(self.token.owner(p), &group).await?;
            saved.remove(&group);
            info!(partition = %p, group, "forgot the group {group}: it was removed from the log");
        }
        Ok(())
    }

    async fn is_owed(&self, positions: &Positions, group: &str) -> Result<bool> {
        if positions.owed.iter().any(|(name, _)| name == group) {
            return Ok(true);
        }
        let redeliver = self.shared.redis.keys().redeliver(self.lease.partition, group);
        Ok(self.shared.redis.length(&redeliver).await? > 0)
    }

    /// Copies a page of what each group is owed, unless enough waits for it already.
    async fn copy_owed(&self, positions: &Positions) -> Result<()> {
        let p = self.lease.partition;
        for (group, owed) in &positions.owed {
            let redeliver = self.shared.redis.keys().redeliver(p, group);
            let mut owed = Some(*owed);
            while let Some(range) = owed
                && self.shared.redis.length(&redeliver).await? < OWED_WAITING_MAX
                && self.lease.is_held()
            {
                owed = self.copy_page(group, range).await?;
                if owed.is_none() {
                    info!(partition = %p, group, "delivered to {group} what the lost log of partition {p} owed it");
                }
            }
        }
        Ok(())
    }

    async fn copy_page(&self, group: &str, owed: Owed) -> Result<Option<Owed>> {
        let p = self.lease.partition;
        let range = Range::Partition(self.partitions, p);
        let entries = self.shared.store.range(&range, owed.after, owed.upto, OWED_PER_STEP).await?;
        let left = match entries.last() {
            Some(last) if entries.len() == OWED_PER_STEP as usize && last.id < owed.upto => {
                Some(Owed { after: last.id, ..owed })
            }
            _ => None,
        };
        self.shared.redis.redeliver_owed(p, group, owed, left, &entries).await?;
        Ok(left)
    }

    async fn sweep(&self) -> Result<()> {
        let debounce = *self.settings.edge.leave_debounce;
        presence::sweep(&self.shared.redis, self.lease.partition, debounce).await.map(|_| ())
    }

    /// The epoch is gone although the lease is ours: somebody removed it, the log has lost its end, or Redis
    /// was emptied a moment ago. Only a new owner may fill the partition: what the writer still holds of the old log
    /// would collide with the numbers that are given anew.
    async fn give_up(&self) -> Result<()> {
        let p = self.lease.partition;
        warn!(partition = %p, "partition {p} is not initialised any more: giving up its lease to have it filled");
        self.shared.redis.release_lease(ARCHIVE, p, self.lease.token).await.map(|_| ())
    }

    /// Retention of the log: never past what the archive holds and what any group still needs.
    async fn trim(&self) -> Result<()> {
        let p = self.lease.partition;
        let archived = self.shared.store.archived(p).await?;
        trim::retain(&self.shared.redis, p, &self.settings.retention, archived, self.lease.token).await.map(|_| ())
    }

    /// Entries that the log holds, and those of them that the archive has not settled.
    async fn measure(&self) -> Result<()> {
        let p = self.lease.partition;
        let (redis, log) = (&self.shared.redis, self.shared.redis.keys().log(p));
        let held = redis.length(&log).await?;
        gauge!(names::LOG_ENTRIES, "partition" => p.to_string()).set(held as f64);
        // Counted as far as a warning needs it.
        let counted = self.settings.archive.warn_pending.saturating_add(1).min(MEASURED_MAX);
        if let Some(position) = position(redis, ARCHIVE, p, &log, counted).await? {
            self.shared.summary.lag(p, Some(position.lag.entries));
        }
        Ok(())
    }
}

impl Memory {
    fn report(&mut self, chore: &'static str, partition: PartitionId, result: Result<()>) {
        match result {
            Ok(()) => {
                if self.failing.remove(chore).is_some() {
                    info!(%partition, chore, "can {chore} of partition {partition} again");
                }
            }
            Err(error) => {
                let failures = self.failing.entry(chore).or_default();
                *failures += 1;
                if *failures == 1 {
                    warn!(%partition, chore, %error, "could not {chore} of partition {partition}: trying again");
                }
            }
        }
    }
}

/// The lag of a partition is its owner's to tell.
struct ForgetLag<'a>(&'a Shared, PartitionId);

impl Drop for ForgetLag<'_> {
    fn drop(&mut self) {
        self.0.summary.lag(self.1, None);
        gauge!(names::LOG_ENTRIES, "partition" => self.1.to_string()).set(0.0);
    }
}
