//! What one client, address or process may use.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use crate::config::LimitSettings;
use crate::error::{Error, Kind, Result};
use crate::protocol::close::RATE_LIMITED_MAX;
use crate::sockets::{files_for, files_max, let_in, newcomers, room};
use crate::telemetry::names;

/// Within this time so many refused frames are abuse (protocol, section 7: 4290).
const ABUSE_WINDOW: Duration = Duration::from_secs(10);

/// Time between two lines of a kind in the log.
const SELDOM: Duration = Duration::from_secs(10);

/// The limits of an edge.
///
/// # Design
/// Each socket has a place, taken before it is accepted: a process out of files can't accept, and would
/// find the same client at its door again and again. A few more places than connections are let in: whoever
/// comes on top of those hears so, and probes are answered. When newcomers who say nothing have those too,
/// the others wait outside, for `edge.hello_timeout` at most.
pub(super) struct Limits {
    handshakes: Option<DefaultKeyedRateLimiter<IpAddr>>,
    sends: Option<Quota>,
    connections: AtomicUsize,
    connections_max: usize,
    places: Arc<Semaphore>,
    full: Seldom,
    crowded: Seldom,
}

/// A socket's place, given back when it is dropped: keep it for as long as the socket is open.
pub(super) type Place = Arc<OwnedSemaphorePermit>;

/// A quota of `per_second` with `burst`; 0 turns it off.
fn quota(per_second: u32, burst: u32) -> Option<Quota> {
    let per_second = NonZeroU32::new(per_second)?;
    Some(Quota::per_second(per_second).allow_burst(NonZeroU32::new(burst).unwrap_or(per_second)))
}

impl Limits {
    /// Of the files that the process may open, as many as `own` stay for its own connections.
    ///
    /// # Errors
    /// [`Kind::Config`] if the process may not open enough files to let anybody in.
    pub(super) fn new(settings: &LimitSettings, own: u64) -> Result<Self> {
        let files = files_max();
        let wanted = if settings.connections == 0 { usize::MAX } else { settings.connections };
        let (connections_max, places) = split(wanted, room(files, own));
        if let (Some(files), true) = (files, connections_max < wanted) {
            let least = files_for(1 + newcomers(1), own);
            if connections_max == 0 {
                let why = format!(
                    "let clients in: of {files} open files none is left for them, ulimit -n {least} is the least"
                );
                return Err(Error::new(Kind::Config, why));
            }
            if settings.connections > 0 {
                warn!(
                    connections_max,
                    "the process may open {files} files: of limits.connections ({wanted}) only {connections_max} are let in; \
                     raise ulimit -n (systemd: LimitNOFILE=)"
                );
            }
        }
        metrics::gauge!(names::CONNECTIONS_MAX).set(connections_max as f64);
        let handshakes = quota(settings.handshakes_per_second, settings.handshake_burst);
        Ok(Self {
            handshakes: handshakes.map(RateLimiter::keyed),
            sends: quota(settings.sends_per_second, settings.send_burst),
            connections: AtomicUsize::new(0),
            connections_max,
            places: Arc::new(Semaphore::new(places)),
            full: Seldom::default(),
            crowded: Seldom::default(),
        })
    }

    /// Waits for a place for one more socket.
    pub(super) async fn place(&self) -> Place {
        let permit = match self.places.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                metrics::counter!(names::ACCEPT_WAITS).increment(1);
                if self.crowded.is_due() {
                    warn!("newcomers wait outside: every file that clients may have is open");
                }
                self.places.clone().acquire_owned().await.expect("the semaphore is never closed")
            }
        };
        Arc::new(permit)
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
        let entered = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if !entered && self.full.is_due() {
            let most = self.connections_max;
            warn!("refused a connection: {most} are open, no more are let in (limits.connections, ulimit -n)");
        }
        entered
    }

    /// A counted connection has ended.
    pub(super) fn exit(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// The rate of one connection.
    pub(super) fn rate(&self) -> Rate {
        Rate { sends: self.sends.map(RateLimiter::direct), refused: Refusals::default() }
    }
}

/// Connections that are let in, and sockets that are accepted, where `wanted` connections are allowed
/// and there is room for so many sockets.
fn split(wanted: usize, room: usize) -> (usize, usize) {
    let sockets = wanted.saturating_add(newcomers(wanted));
    if sockets <= room {
        (wanted, sockets.min(Semaphore::MAX_PERMITS))
    } else {
        (wanted.min(let_in(room)), room.min(Semaphore::MAX_PERMITS))
    }
}

/// Lets one line through now and then: what a flood of clients causes shall not flood the log.
#[derive(Debug, Default)]
struct Seldom(Mutex<Option<Instant>>);

impl Seldom {
    fn is_due(&self) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = last.is_none_or(|last| last.elapsed() >= SELDOM);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

/// How fast one connection may send.
pub(super) struct Rate {
    sends: Option<DefaultDirectRateLimiter>,
    refused: Refusals,
}

impl Rate {
    /// Whether a send is allowed now; if not, in how many milliseconds.
    pub(super) fn check(&self) -> Result<(), u64> {
        let Some(sends) = &self.sends else { return Ok(()) };
        let Err(until) = sends.check() else { return Ok(()) };
        let wait = until.wait_time_from(DefaultClock::default().now());
        Err(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1))
    }

    /// A frame was refused as `rate_limited`; whether more were lately than a mistake explains.
    pub(super) fn refused(&mut self) -> bool {
        self.refused.add(Instant::now())
    }
}

/// When frames of a connection were refused within the last [`ABUSE_WINDOW`]. Who keeps to its rate has none, and
/// who has too many is closed: there are [`RATE_LIMITED_MAX`] and one at most.
#[derive(Debug, Default)]
struct Refusals(VecDeque<Instant>);

impl Refusals {
    fn add(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|first| now.duration_since(*first) > ABUSE_WINDOW) {
            self.0.pop_front();
        }
        if self.0.is_empty() {
            // A flood that is over holds no memory.
            self.0 = VecDeque::new();
        }
        self.0.push_back(now);
        self.0.len() > RATE_LIMITED_MAX as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// They were counted from one moment on, ten seconds long: around its end twice as many went through.
    #[test]
    fn refusals_are_counted_within_any_ten_seconds() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        let at = |ms: u64| begin + Duration::from_millis(ms);
        for n in 0..500 {
            assert!(!refusals.add(at(9_000 + n)));
        }
        for n in 0..500 {
            assert!(!refusals.add(at(11_000 + n)));
        }
        assert!(refusals.add(at(11_500)), "1,001 within 2.5 s");
        // Once the first ones are ten seconds old there is room for as many again.
        let mut refusals = Refusals::default();
        for n in 0..10_000 {
            assert!(!refusals.add(at(n * 11)), "refusal {n}");
            assert!(refusals.0.len() <= 1_000);
        }
        assert!(!refusals.add(at(200_000)));
        assert!(refusals.0.capacity() < 10, "a flood that is over holds no memory");
    }

    #[test]
    fn files_leave_room_for_newcomers_beside_the_connections() {
        assert_eq!(split(100_000, usize::MAX), (100_000, 100_256));
        assert_eq!(split(2, 1_000), (2, 10));
        assert_eq!(split(usize::MAX, usize::MAX), (usize::MAX, Semaphore::MAX_PERMITS));
        // Not enough files: fewer connections.
        assert_eq!(split(100_000, 64), (56, 64));
        assert_eq!(split(60, 64), (56, 64));
        assert_eq!(split(usize::MAX, 1_000), (875, 1_000));
        assert_eq!(split(100_000, 8).0, 0);
    }
}
