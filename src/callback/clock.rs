//! The time by Redis' clock, which gives the ids: what several workers write down for each other, and
//! what is compared with an id, must not depend on which of them has a wrong clock.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Redis' clock as it was when it was last asked, carried on by our monotonic one. Before that, our own.
#[derive(Debug)]
pub(super) struct Clock(Mutex<(u64, Instant)>);

impl Clock {
    pub(super) fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Mutex::new((millis(now), Instant::now())))
    }

    /// What Redis has just said.
    pub(super) fn set(&self, now_ms: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = (now_ms, Instant::now());
    }

    /// Milliseconds since the epoch.
    pub(super) fn now_ms(&self) -> u64 {
        let (then, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        then.saturating_add(millis(since.elapsed()))
    }
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
