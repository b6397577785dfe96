//! What the writers of this process did: counted, and said once a minute.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{Counter, Histogram, counter, gauge, histogram};
use tracing::{debug, info, warn};

use super::gathering::Cause;
use crate::error::Error;
use crate::model::PartitionId;
use crate::store::Inserted;
use crate::telemetry::names;

/// How often the summary is logged (mission, B6).
pub(super) const SUMMARY_INTERVAL: Duration = Duration::from_secs(60);

/// Counts of one process. Shared by its writers.
pub(super) struct Summary {
    counts: Mutex<Counts>,
    lag: Mutex<BTreeMap<PartitionId, u64>>,
    /// Why partitions are not written now.
    stuck: Mutex<BTreeMap<PartitionId, String>>,
    rows: Counter,
    duplicates: Counter,
    commit_seconds: Histogram,
    by_cause: BTreeMap<Cause, (Histogram, Histogram)>,
}

#[derive(Debug, Default)]
struct Counts {
    rows: u64,
    duplicates: u64,
    parked: u64,
    failures: u64,
    batches: BTreeMap<Cause, u64>,
    longest: Duration,
    /// Whether the last lag was worth a warning.
    behind: bool,
}

/// A batch that was committed.
pub(super) struct Committed {
    pub(super) partition: PartitionId,
    pub(super) cause: Cause,
    pub(super) entries: usize,
    pub(super) inserted: Inserted,
    pub(super) parked: usize,
    /// Since its first row.
    pub(super) age: Duration,
    pub(super) commit: Duration,
}

impl Default for Summary {
    fn default() -> Self {
        let by_cause = |cause: Cause| {
            let rows = histogram!(names::ARCHIVE_BATCH_ROWS, "cause" => cause.as_str());
            (cause, (rows, histogram!(names::ARCHIVE_BATCH_SECONDS, "cause" => cause.as_str())))
        };
        Self {
            counts: Mutex::default(),
            lag: Mutex::default(),
            stuck: Mutex::default(),
            rows: counter!(names::ARCHIVE_ROWS),
            duplicates: counter!(names::ARCHIVE_DUPLICATES),
            commit_seconds: histogram!(names::ARCHIVE_COMMIT_SECONDS),
            by_cause: Cause::ALL.into_iter().map(by_cause).collect(),
        }
    }
}

impl Summary {
    pub(super) fn committed(&self, batch: &Committed) {
        let Committed { partition, inserted, entries, age, commit, .. } = *batch;
        let cause = batch.cause.as_str();
        let ms = u64::try_from(commit.as_millis()).unwrap_or(u64::MAX);
        debug!(%partition, rows = inserted.rows, duplicates = inserted.duplicates, parked = batch.parked, cause, ms,
            "wrote {entries} entries of partition {partition} because of {cause} in {ms} ms");
        self.rows.increment(inserted.rows);
        self.duplicates.increment(inserted.duplicates);
        self.commit_seconds.record(commit.as_secs_f64());
        if let Some((rows, seconds)) = self.by_cause.get(&batch.cause) {
            rows.record(entries as f64);
            seconds.record(age.as_secs_f64());
        }
        let mut counts = self.counts();
        counts.rows += inserted.rows;
        counts.duplicates += inserted.duplicates;
        counts.parked += batch.parked as u64;
        counts.longest = counts.longest.max(commit);
        *counts.batches.entry(batch.cause).or_default() += 1;
    }

    /// A batch of a partition could not be written, and will be tried again.
    pub(super) fn failed(&self, partition: PartitionId, error: &Error) {
        self.stuck().insert(partition, error.to_string());
        counter!(names::ARCHIVE_FAILURES, "kind" => format!("{:?}", error.kind())).increment(1);
        self.counts().failures += 1;
    }

    /// A partition is written again, or is no longer ours to write.
    pub(super) fn is_written(&self, partition: PartitionId) {
        self.stuck().remove(&partition);
    }

    /// Whether every partition that this worker owns can be written.
    pub(super) fn can_write(&self) -> Result<(), String> {
        let stuck = self.stuck();
        let Some((partition, why)) = stuck.iter().next() else { return Ok(()) };
        Err(format!("{} partitions wait in the log, {partition} because: {why}", stuck.len()))
    }

    /// Rows that came into a writer's hands (or, negative, left them).
    pub(super) fn held(&self, rows: i64) {
        gauge!(names::ARCHIVE_PENDING_ROWS).increment(rows as f64);
    }

    /// How far the archive is behind in a partition; `None`: somebody else's now.
    pub(super) fn lag(&self, partition: PartitionId, entries: Option<u64>) {
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        match entries {
            Some(entries) => lag.insert(partition, entries),
            None => lag.remove(&partition),
        };
    }

    /// Warns when more than `warn` entries wait for the archive, and says when it is over.
    pub(super) fn watch_lag(&self, warn: u64) {
        let pending: u64 = self.lag.lock().unwrap_or_else(PoisonError::into_inner).values().sum();
        let was = std::mem::replace(&mut self.counts().behind, pending > warn);
        if pending > warn && !was {
            warn!(pending, warn_pending = warn, "{pending} entries are not archived: more than archive.warn_pending");
        } else if pending <= warn && was {
            info!(pending, warn_pending = warn, "the archive has caught up: {pending} entries are not archived");
        }
    }

    /// One line for what was done since the last one; none if nothing was.
    pub(super) fn log(&self) {
        let (done, batches) = {
            let mut counts = self.counts();
            let behind = counts.behind;
            let done = std::mem::replace(&mut *counts, Counts { behind, ..Counts::default() });
            let batches: u64 = done.batches.values().sum();
            (done, batches)
        };
        if batches == 0 && done.failures == 0 {
            return;
        }
        let causes: Vec<String> = done.batches.iter().map(|(cause, n)| format!("{} {n}", cause.as_str())).collect();
        info!(
            rows = done.rows,
            duplicates = done.duplicates,
            batches,
            parked = done.parked,
            failures = done.failures,
            longest_ms = u64::try_from(done.longest.as_millis()).unwrap_or(u64::MAX),
            causes = causes.join(", "),
            "wrote {} rows in {batches} batches within the last minute",
            done.rows,
        );
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<PartitionId, String>> {
        // As with the counts.
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Nothing panics while holding it, and counts can't be half changed.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
