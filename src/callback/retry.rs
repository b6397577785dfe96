//! When to try again, and when to give up. Pure arithmetic: the caller waits.
//!
//! **Invariant:** no wait is shorter than what the endpoint asked for by `Retry-After`.

use std::time::{Duration, SystemTime};

use crate::backoff::exponential;

/// Jitter goes upward by a quarter at most: downward it would undercut what was promised.
const JITTER_MAX: f64 = 0.25;
/// A longer `Retry-After` than this counts as this: beyond it clocks can't be computed with.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

/// When to try again, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Policy {
    /// Attempts after the first one.
    pub(super) max_retries: u32,
    /// Age of an item at which it is given up, whatever attempts are left.
    pub(super) max_age: Option<Duration>,
    /// Wait before the first retry; doubles each time.
    pub(super) delay: Duration,
    /// Longest wait that is ours to choose.
    pub(super) delay_max: Duration,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Next {
    /// Another attempt, not before this wait is over.
    Again(Duration),
    /// None: the attempts are used up.
    Exhausted,
    /// None: it would be too old.
    TooOld,
}

impl Policy {
    /// What follows failure number `failures` (from 1) of an item that is `age` old.
    pub(super) fn next(&self, failures: u32, age: Duration, retry_after: Option<Duration>) -> Next {
        if failures > self.max_retries {
            return Next::Exhausted;
        }
        let wait = self.wait(failures).max(retry_after.unwrap_or_default());
        if self.is_too_old(age.saturating_add(wait)) { Next::TooOld } else { Next::Again(wait) }
    }

    /// Whether an item of this age is given up.
    pub(super) fn is_too_old(&self, age: Duration) -> bool {
        self.max_age.is_some_and(|max| age > max)
    }

    fn wait(&self, failures: u32) -> Duration {
        let wait = exponential(self.delay, self.delay_max, failures.saturating_sub(1));
        wait.mul_f64(1.0 + rand::random_range(0.0..=JITTER_MAX)).min(self.delay_max)
    }
}

/// How long `Retry-After` asks to wait: seconds, or a date.
///
/// A date is read by the endpoint's own clock (`date`, its header `Date`) and by ours, and the
/// longer wait counts: a skewed clock must not undercut it. Nothing if the header is malformed.
pub fn retry_after(header: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|b| b.is_ascii_digit()) {
        let seconds = header.parse().map_or(RETRY_AFTER_MAX, Duration::from_secs);
        return Some(seconds.min(RETRY_AFTER_MAX));
    }
    let until = httpdate::parse_http_date(header).ok()?;
    let ours = until.duration_since(now).unwrap_or_default();
    let theirs = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok());
    let theirs = theirs.and_then(|date| until.duration_since(date).ok()).unwrap_or_default();
    Some(ours.max(theirs).min(RETRY_AFTER_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy =
        Policy { max_retries: 3, max_age: None, delay: Duration::from_secs(5), delay_max: Duration::from_secs(60) };

    #[test]
    fn waits_double_with_jitter_upward_up_to_the_longest() {
        let policy = Policy { max_retries: 100, ..POLICY };
        for (failures, base) in [(1, 5), (2, 10), (3, 20), (4, 40), (5, 60), (99, 60)] {
            for _ in 0..50 {
                let Next::Again(wait) = policy.next(failures, Duration::ZERO, None) else { panic!("gave up") };
                assert!(wait >= Duration::from_secs(base), "{failures}: {wait:?}");
                assert!(wait <= Duration::from_secs(base).mul_f64(1.25).min(policy.delay_max), "{failures}: {wait:?}");
            }
        }
    }

    #[test]
    fn it_ends_after_the_retries_and_at_the_age() {
        assert!(matches!(POLICY.next(3, Duration::ZERO, None), Next::Again(_)));
        assert_eq!(POLICY.next(4, Duration::ZERO, None), Next::Exhausted);
        let aging = Policy { max_age: Some(Duration::from_secs(100)), ..POLICY };
        assert!(matches!(aging.next(1, Duration::from_secs(90), None), Next::Again(_)));
        assert_eq!(aging.next(1, Duration::from_secs(96), None), Next::TooOld);
        assert_eq!(aging.next(1, Duration::ZERO, Some(Duration::from_secs(101))), Next::TooOld);
    }

    #[test]
    fn retry_after_is_never_undercut() {
        for seconds in [0, 1, 6, 59, 86_400, 10_000_000] {
            let asked = Duration::from_secs(seconds);
            let Next::Again(wait) = POLICY.next(1, Duration::ZERO, Some(asked)) else { panic!("gave up") };
            assert!(wait >= asked && wait >= POLICY.delay);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |header: &str, date: Option<&str>| retry_after(header, date, now).map(|wait| wait.as_secs());
        assert_eq!(read("120", None), Some(120));
        assert_eq!(read(" 0 ", None), Some(0));
        assert_eq!(read("99999999999999999999999", None), Some(RETRY_AFTER_MAX.as_secs()));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT", None), Some(60));
        assert_eq!(read("Sunday, 06-Nov-94 08:50:37 GMT", None), Some(60));
        assert_eq!(read("Sun Nov  6 08:50:37 1994", None), Some(60));
        assert_eq!(read("Sun, 06 Nov 1994 08:49:00 GMT", None), Some(0));
        assert_eq!(read("soon", None), None);
        assert_eq!(read("-5", None), None);
        // The endpoint's clock is an hour behind ours: by its own words it still wants ten minutes.
        let (until, date) = ("Sun, 06 Nov 1994 07:59:37 GMT", "Sun, 06 Nov 1994 07:49:37 GMT");
        assert_eq!(read(until, Some(date)), Some(600));
    }
}
