//! Looks after what the edge relies on: its sign of life, its canary, and whether the log is still
//! the one that it was.
//!
//! # Design
//! A log that was wiped and restored has another epoch; one whose Redis failed over to a replica
//! without the last writes has the same, but ends before what the tail has read. Both are looked
//! for every second, and both put the subscriptions of the partition back to *catching up*, where
//! the replay worker verifies each cursor. So nobody goes on as if nothing had happened.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Edge;
use super::control::Control;
use super::measure::Backlog;
use crate::error::Result;
use crate::model::{EdgeNote, PartitionId};
use crate::telemetry::Part;

/// How often it looks: readiness counts a success for 2 s.
const INTERVAL: Duration = Duration::from_secs(1);
/// Life of the edge's sign: many intervals, so that a short outage of Redis kills nobody.
pub(super) const ALIVE_TTL: Duration = Duration::from_secs(15);

/// Looks every second, until it is dropped. `log` says whether every partition is initialised.
pub(super) async fn run(edge: Arc<Edge>, log: Part, canary: Part) {
    let mut epochs: HashMap<PartitionId, String> = HashMap::new();
    let mut alive_before = false;
    let backlog = Backlog::new();
    loop {
        if let Err(error) = edge.redis.send_to_edge(&edge.id, &EdgeNote::Canary).await {
            canary.failed(error);
        }
        match edge.redis.renew_edge(&edge.id, ALIVE_TTL).await {
            Ok(was_alive) => {
                if alive_before && !was_alive {
                    warn!("the edge was taken for dead, its stays are counted again");
                    edge.registry.control_all(|| Control::CountAgain);
                }
                alive_before = true;
            }
            Err(error) => warn!(%error, "could not renew the edge's sign of life"),
        }
        log.report(&look(&edge, &mut epochs).await);
        edge.limits.forget_old_addresses();
        backlog.show(edge.registry.backlog());
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Whether each partition is initialised; those that are not the same as before are verified.
async fn look(edge: &Edge, epochs: &mut HashMap<PartitionId, String>) -> Result<()> {
    let looks = edge.partitions.all().map(|partition| look_at(edge, partition, epochs.get(&partition)));
    let (mut missing, mut failure) = (Vec::new(), None);
    let all_found = futures_util::future::join_all(looks).await;
    for (partition, found) in edge.partitions.all().zip(all_found) {
        let (epoch, went_back) = match found {
            Ok((Some(epoch), went_back)) => (epoch, went_back),
            Ok((None, _)) => {
                missing.push(partition.to_string());
                continue;
            }
            Err(error) => {
                failure = Some(error);
                continue;
            }
        };
        edge.tail.set_epoch(partition, &epoch);
        let before = epochs.insert(partition, epoch.clone());
        if went_back || before.is_some_and(|before| before != epoch) {
            info!(%partition, "the log is another than before, cursors are verified");
            edge.registry.control_all(|| Control::Verify(partition));
        }
    }
    if let Some(failure) = failure {
        Err(failure)
    } else if missing.is_empty() {
        Ok(())
    } else {
        Err(crate::Error::new(
            crate::error::Kind::NotInitialised,
            format!("partitions {} are not initialised: is an archive worker running?", missing.join(", ")),
        ))
    }
}

/// A partition's epoch, and whether its log ends before what the tail has read.
async fn look_at(edge: &Edge, partition: PartitionId, before: Option<&String>) -> Result<(Option<String>, bool)> {
    // In this order: what the tail reads meanwhile is no step back.
    let reached = edge.tail.reached(partition);
    let epoch = edge.redis.epoch(partition).await?;
    let Some(reached) = reached else { return Ok((epoch, false)) };
    let end = edge.redis.last_generated_id(partition).await?.unwrap_or_default();
    if end < reached {
        // Nothing is numbered again before the log was compared with the archive. This comes first: if it fails, the
        // tail still shows the loss, and the next look tries again.
        // An edge that has not heard of an epoch yet may have read in this one: asked once too often, the archive is
        // compared for nothing.
        if let Some(epoch) = &epoch
            && before.is_none_or(|before| before == epoch)
        {
            edge.redis.log_lost(partition, epoch, reached).await?;
        }
        edge.tail.go_back(partition, end);
    }
    Ok((epoch, end < reached))
}
