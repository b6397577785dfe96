//! Whether the process was frozen: by a debugger, a suspended machine, SIGSTOP.
//!
//! **Invariant:** after a freeze that is long enough for a device to be served elsewhere, nothing is
//! taken from a connection before it is known that the device is still its own.
//!
//! # Design
//! What lies in the sockets of a frozen edge may be a send that its device has repeated at another edge
//! long ago, and so many sends ago that its cid is forgotten: it would be stored twice. The newer
//! edge can't help: it asks us to let go of the device, waits for a while, and goes on without us. We
//! notice by a beat that stopped. A false alarm, on a machine that is that busy, costs a question to
//! Redis and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Edge;
use crate::error::Result;
use crate::model::{DeviceId, UserId};
use crate::stream::DeviceHolder;

/// How often the pulse beats.
const BEAT: Duration = Duration::from_millis(200);
/// A longer silence is a freeze: half of what another edge waits for us before it goes on.
const FREEZE: Duration = Duration::from_secs(1);

/// The pulse of a process.
#[derive(Debug)]
pub(super) struct Pulse {
    since: Instant,
    /// Milliseconds after `since` of the last beat.
    last: AtomicU64,
    freezes: AtomicU64,
}

impl Pulse {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), last: AtomicU64::new(0), freezes: AtomicU64::new(0) }
    }

    /// How many freezes there were; one that was not noticed by the pulse itself yet counts as one more.
    pub(super) fn freezes(&self) -> u64 {
        // The beat that ends a freeze counts it first: whoever sees that beat sees the count.
        let overdue = self.is_overdue();
        self.freezes.load(Ordering::SeqCst) + u64::from(overdue)
    }

    fn is_overdue(&self) -> bool {
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        self.since.elapsed().saturating_sub(last) > FREEZE
    }

    fn beat(&self) {
        if self.is_overdue() {
            self.freezes.fetch_add(1, Ordering::SeqCst);
        }
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(now, Ordering::SeqCst);
    }
}

/// Beats until it is dropped.
pub(super) async fn run(edge: Arc<Edge>) {
    loop {
        edge.pulse.beat();
        tokio::time::sleep(BEAT).await;
    }
}

/// Who has a device now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// The connection that asks.
    Us,
    /// A newer one.
    Another,
    /// Nobody: a newer one came and went, or Redis has lost it.
    Nobody,
}

impl Edge {
    /// One of our connections, as the holder of its device.
    pub(super) fn holder_of(&self, connection: u64) -> DeviceHolder {
        DeviceHolder { edge: self.id.clone(), connection }
    }

    /// Who has the device of `connection` now.
    pub(super) async fn holder(&self, user: &UserId, device: &DeviceId, connection: u64) -> Result<Holder> {
        let ours = self.holder_of(connection);
        Ok(match self.redis.device_holder(user, device).await? {
            Some(holder) if holder == ours => Holder::Us,
            Some(_) => Holder::Another,
            None => Holder::Nobody,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_freeze_is_seen_before_the_beat_that_ends_it_and_after() {
        let mut pulse = Pulse::new();
        pulse.beat();
        assert_eq!(pulse.freezes(), 0);
        // As if the last beat had been then.
        pulse.since -= FREEZE * 2;
        assert_eq!(pulse.freezes(), 1);
        pulse.beat();
        assert_eq!(pulse.freezes(), 1);
    }
}
