//! Metrics of the hot path, looked up once.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};

use super::now_ms;
use crate::model::{Entry, EntryKind};
use crate::protocol::ErrorCode;
use crate::telemetry::names;

/// Handles of what is counted for every message.
pub(super) struct Measures {
    accepted: Counter,
    duplicates: Counter,
    publish_seconds: Histogram,
    messages: Counter,
    events: Counter,
    delivery_seconds: Histogram,
    sends: Counter,
    acks: Counter,
    pub(super) replayed: Counter,
    pub(super) tail_holes: Counter,
}

impl Measures {
    pub(super) fn new() -> Self {
        Self {
            accepted: metrics::counter!(names::SENDS_ACCEPTED),
            duplicates: metrics::counter!(names::SENDS_DUPLICATE),
            publish_seconds: metrics::histogram!(names::PUBLISH_SECONDS),
            messages: metrics::counter!(names::DELIVERIES, "kind" => "message"),
            events: metrics::counter!(names::DELIVERIES, "kind" => "event"),
            delivery_seconds: metrics::histogram!(names::DELIVERY_SECONDS),
            sends: metrics::counter!(names::FRAMES_RECEIVED, "type" => "send"),
            acks: metrics::counter!(names::FRAMES_RECEIVED, "type" => "ack"),
            replayed: metrics::counter!(names::DELIVERIES, "kind" => "replay"),
            tail_holes: metrics::counter!(names::TAIL_HOLES),
        }
    }

    pub(super) fn accepted(&self, duplicate: bool, after: Duration) {
        self.accepted.increment(1);
        if duplicate {
            self.duplicates.increment(1);
        }
        self.publish_seconds.record(after);
    }

    pub(super) fn refused(&self, code: ErrorCode) {
        metrics::counter!(names::SENDS_REFUSED, "reason" => code.as_str()).increment(1);
    }

    /// Live entries went to a socket: one observation of latency for all of them.
    pub(super) fn delivered_live(&self, entries: &[Entry]) {
        let events = entries.iter().filter(|entry| entry.kind == EntryKind::Event).count();
        self.messages.increment((entries.len() - events) as u64);
        if events > 0 {
            self.events.increment(events as u64);
        }
        if let Some(first) = entries.first() {
            let ms = now_ms().saturating_sub(first.id.ms);
            self.delivery_seconds.record(Duration::from_millis(ms));
        }
    }

    pub(super) fn received(&self, frame: &'static str) {
        match frame {
            "send" => self.sends.increment(1),
            "ack" => self.acks.increment(1),
            other => metrics::counter!(names::FRAMES_RECEIVED, "type" => other).increment(1),
        }
    }
}

/// How many subscriptions of one connection are catching up, and the gauge of all of them.
///
/// **Invariant:** what it has added to the gauge is taken off again, at the latest when it is dropped.
pub(super) struct Behind {
    subscriptions: u32,
    gauge: Gauge,
}

impl Behind {
    pub(super) fn new() -> Self {
        Self { subscriptions: 0, gauge: metrics::gauge!(names::CATCHING_UP) }
    }

    pub(super) fn is_none(&self) -> bool {
        self.subscriptions == 0
    }

    pub(super) fn more(&mut self) {
        self.subscriptions += 1;
        self.gauge.increment(1.0);
    }

    pub(super) fn fewer(&mut self) {
        if self.subscriptions > 0 {
            self.subscriptions -= 1;
            self.gauge.decrement(1.0);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if self.subscriptions > 0 {
            self.gauge.decrement(f64::from(self.subscriptions));
        }
    }
}

/// What waits for the connections of an edge, looked at now and then: counting at each push would
/// have all connections write to one place in memory.
pub(super) struct Backlog {
    outbox_bytes: Gauge,
    slow_readers: Gauge,
}

impl Backlog {
    pub(super) fn new() -> Self {
        Self { outbox_bytes: metrics::gauge!(names::OUTBOX_BYTES), slow_readers: metrics::gauge!(names::SLOW_READERS) }
    }

    pub(super) fn show(&self, (bytes, slow): (usize, usize)) {
        self.outbox_bytes.set(bytes as f64);
        self.slow_readers.set(slow as f64);
    }
}
