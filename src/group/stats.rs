//! How far a worker's partitions are behind, as gauges.

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::position::{GroupPosition, position};
use super::worker::{PartitionGauges, Worker, now_ms};
use crate::model::PartitionId;

/// How often the gauges are set.
const INTERVAL: Duration = Duration::from_secs(2);
/// Unread entries that are counted exactly for a gauge; beyond, Redis' own estimate is good enough.
const COUNT_MAX: u64 = 1_000;

/// Sets the gauges of the owned partitions, for ever.
pub(super) async fn watch(worker: Arc<Worker>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Ok(letters) = worker.redis.length(&worker.redis.keys().dead(&worker.group)).await {
            worker.meters.dead_letters.set(letters as f64);
        }
        for (p, key) in worker.board.streams() {
            match position(&worker.redis, &worker.group, p, &key, COUNT_MAX).await {
                Ok(Some(position)) => show(&worker, &position),
                Ok(None) => {}
                Err(error) => {
                    debug!(group = worker.group, partition = %p, %error, "failed to read how far the group is")
                }
            }
        }
    }
}

/// A partition is not ours any more.
pub(super) fn clear(worker: &Worker, p: PartitionId) {
    PartitionGauges::new(&worker.group, p).clear();
}

fn show(worker: &Worker, position: &GroupPosition) {
    let gauges = PartitionGauges::new(&worker.group, position.partition);
    let age = |ms: Option<u64>| ms.map_or(0.0, |ms| now_ms().saturating_sub(ms) as f64 / 1_000.0);
    gauges.lag_entries.set(position.lag.entries as f64);
    gauges.lag_seconds.set(age(position.oldest_unsettled.map(|id| id.ms)));
    gauges.pending.set(position.pending as f64);
    gauges.oldest_pending_seconds.set(age(position.oldest_pending.map(|id| id.ms)));
}
