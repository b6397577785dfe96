//! What all partitions of one worker share.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::reading::Board;
use crate::config::GroupSettings;
use crate::model::PartitionId;
use crate::stream::Redis;
use crate::telemetry::names;

/// One worker of a group: who it is, what it talks to, what it counts.
pub(super) struct Worker {
    /// Name of the group.
    pub group: String,
    /// Name of the worker: its consumer name, and what stands in its leases.
    pub id: String,
    pub redis: Redis,
    pub settings: GroupSettings,
    pub board: Arc<Board>,
    pub meters: Meters,
}

/// Cached handles of the group's metrics.
pub(super) struct Meters {
    pub done: Counter,
    pub retried: Counter,
    pub ack_seconds: Histogram,
    pub take_overs: Counter,
    pub leases_lost: Counter,
    pub recreated: Counter,
    pub moved_back: Counter,
    pub destroyed: Counter,
    pub partitions: Gauge,
    pub workers: Gauge,
    pub dead_letters: Gauge,
}

impl Meters {
    pub(super) fn new(group: &str) -> Self {
        let group = group.to_owned();
        Self {
            done: counter!(names::GROUP_DONE, "group" => group.clone()),
            retried: counter!(names::GROUP_RETRIED, "group" => group.clone()),
            ack_seconds: histogram!(names::GROUP_ACK_SECONDS, "group" => group.clone()),
            take_overs: counter!(names::GROUP_TAKE_OVERS, "group" => group.clone()),
            leases_lost: counter!(names::GROUP_LEASES_LOST, "group" => group.clone()),
            recreated: counter!(names::GROUP_RECREATED, "group" => group.clone()),
            moved_back: counter!(names::GROUP_MOVED_BACK, "group" => group.clone()),
            destroyed: counter!(names::LOG_DESTROYED, "group" => group.clone()),
            partitions: gauge!(names::GROUP_PARTITIONS, "group" => group.clone()),
            workers: gauge!(names::GROUP_WORKERS, "group" => group.clone()),
            dead_letters: gauge!(names::GROUP_DEAD_LETTERS, "group" => group),
        }
    }
}

/// The gauges of one partition.
pub(super) struct PartitionGauges {
    pub lag_entries: Gauge,
    pub lag_seconds: Gauge,
    pub pending: Gauge,
    pub oldest_pending_seconds: Gauge,
}

impl PartitionGauges {
    pub(super) fn new(group: &str, p: PartitionId) -> Self {
        let (group, p) = (group.to_owned(), p.to_string());
        Self {
            lag_entries: gauge!(names::GROUP_LAG_ENTRIES, "group" => group.clone(), "partition" => p.clone()),
            lag_seconds: gauge!(names::GROUP_LAG_SECONDS, "group" => group.clone(), "partition" => p.clone()),
            pending: gauge!(names::GROUP_PENDING_ENTRIES, "group" => group.clone(), "partition" => p.clone()),
            oldest_pending_seconds: gauge!(names::GROUP_OLDEST_PENDING_SECONDS, "group" => group, "partition" => p),
        }
    }

    /// The partition is another worker's now, which says how it is.
    pub(super) fn clear(&self) {
        for gauge in [&self.lag_entries, &self.lag_seconds, &self.pending, &self.oldest_pending_seconds] {
            gauge.set(0.0);
        }
    }
}

/// Milliseconds of Unix time, by our own clock: for people and gauges, never for order.
pub(super) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
