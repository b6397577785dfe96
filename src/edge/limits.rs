//! What one client, address or process may use.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::LimitSettings;
use crate::protocol::close::RATE_LIMITED_MAX;

/// Within this time so many refused frames are abuse (protocol, section 7: 4290).
const ABUSE_WINDOW: Duration = Duration::from_secs(10);

/// The limits of an edge.
pub(super) struct Limits {
    handshakes: Option<DefaultKeyedRateLimiter<IpAddr>>,
    sends: Option<Quota>,
    connections: AtomicUsize,
    connections_max: usize,
}

/// A quota of `per_second` with `burst`; 0 turns it off.
fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    let per_second = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(per_second).allow_burst(NonZeroU32::new(burst).unwrap_or(per_second)))
}

impl Limits {
    pub(super) fn new(settings: &LimitSettings) -> Self {
        let handshakes = quota(settings.handshakes_per_second, settings.handshake_burst);
        Self {
            handshakes: handshakes.map(RateLimiter::keyed),
            sends: quota(settings.sends_per_second, settings.send_burst),
            connections: AtomicUsize::new(0),
            connections_max: if settings.connections == 0 { usize::MAX } else { settings.connections },
        }
    }

    /// Whether an address may shake hands now; if not, when it may.
    pub(super) fn handshake(&self, address: IpAddr) -> Result<(), Duration> {
        let Some(handshakes) = &self.handshakes else { return Ok(()) };
        handshakes.check_key(&address).map_err(|until| until.wait_time_from(DefaultClock::default().now()))
    }

    /// Forgets addresses that have not been seen for a while.
    pub(super) fn forget_old_addresses(&self) {
        if let Some(handshakes) = &self.handshakes {
            handshakes.retain_recent();
            handshakes.shrink_to_fit();
        }
    }

    /// Counts a connection, unless there are as many as allowed.
    pub(super) fn enter(&self) -> bool {
        let fits = |open| (open < self.connections_max).then_some(open + 1);
        self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    /// A counted connection has ended.
    pub(super) fn exit(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The rate of one connection.
    pub(super) fn rate(&self) -> Rate {
        Rate { sends: self.sends.map(RateLimiter::direct), refused: 0, since: Instant::now() }
    }
}

/// How fast one connection may send.
pub(super) struct Rate {
    sends: Option<DefaultDirectRateLimiter>,
    refused: u32,
    since: Instant,
}

impl Rate {
    /// Whether a send is allowed now; if not, in how many milliseconds. A refusal is counted.
    pub(super) fn check(&mut self) -> Result<(), u64> {
        let Some(sends) = &self.sends else { return Ok(()) };
        let Err(until) = sends.check() else { return Ok(()) };
        let wait = until.wait_time_from(DefaultClock::default().now());
        if self.since.elapsed() > ABUSE_WINDOW {
            (self.since, self.refused) = (Instant::now(), 0);
        }
        self.refused += 1;
        Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// Whether more was refused lately than a mistake explains.
    pub(super) fn is_abused(&self) -> bool {
        self.refused > RATE_LIMITED_MAX
    }
}
