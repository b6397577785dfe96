//! How long to wait before trying again: exponential, bounded, with jitter.
//!
//! Pure arithmetic: the caller waits. Jitter goes downward by half at most, so that processes that
//! failed together don't return together.

use std::time::Duration;

/// A growing wait, from `first` doubling to `max`.
///
/// ```
/// use std::time::Duration;
/// let mut backoff = millstream::backoff::Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
/// let first = backoff.next();
/// assert!(first >= Duration::from_millis(50) && first <= Duration::from_millis(100));
/// for _ in 0..100 {
///     assert!(backoff.next() <= Duration::from_secs(2));
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    /// A back-off whose first wait is at most `first` and whose longest is `max`.
    pub fn new(first: Duration, max: Duration) -> Self {
        Self { first, max, attempt: 0 }
    }

    /// The next wait, longer each time, with jitter.
    #[expect(clippy::should_implement_trait, reason = "a back-off never ends, so it is no iterator")]
    pub fn next(&mut self) -> Duration {
        let full = exponential(self.first, self.max, self.attempt);
        self.attempt = self.attempt.saturating_add(1);
        full.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Begins again with the first wait, after a success.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }

    /// How many waits have been given out since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempt
    }
}

/// `first × 2^attempt`, at most `max`, without jitter.
pub fn exponential(first: Duration, max: Duration, attempt: u32) -> Duration {
    first.checked_mul(2u32.saturating_pow(attempt.min(31))).map_or(max, |wait| wait.min(max))
}
