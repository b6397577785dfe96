//! Stops attempts at an endpoint that fails again and again. Pure: the caller brings the time.
//!
//! Closed: attempts go out. After [`FAILURES_TO_OPEN`] failures in a row, whatever their rooms, it
//! opens: none go out, and none are used up. When its time is over one attempt goes out as a
//! probe; its success closes the breaker, its failure opens it again, for longer.

use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::exponential;

/// So many failures in a row are not the fault of one room's message.
const FAILURES_TO_OPEN: u32 = 10;
/// An endpoint that came back is noticed within a minute, whatever the waits of single items are.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// A retry delay of nothing must not turn probing into a busy loop.
const OPEN_MIN: Duration = Duration::from_millis(100);

/// The breaker of one endpoint, in one process.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    first: Duration,
    max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, times: u32 },
    Probing { times: u32 },
}

/// Whether an attempt may go out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Permission {
    /// It may; `probe` says that all others wait for what it finds.
    Go { probe: bool },
    /// It may not before then; nothing: before the probe under way has ended.
    Wait(Option<Instant>),
}

/// How an attempt ended, as far as the breaker is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The endpoint works.
    Success,
    /// It doesn't.
    Failure,
    /// It was not the endpoint's doing: nothing is learned.
    Unknown,
}

impl Breaker {
    /// A closed breaker that opens for `delay` at first, doubling up to `delay_max` or a minute.
    pub(super) fn new(delay: Duration, delay_max: Duration) -> Self {
        let first = delay.clamp(OPEN_MIN, OPEN_MAX);
        Self { state: State::Closed { failures: 0 }, first, max: delay_max.clamp(first, OPEN_MAX) }
    }

    /// Whether an attempt may go out now. A probe must be followed by [`Breaker::ended`].
    pub(super) fn ask(&mut self, now: Instant) -> Permission {
        match self.state {
            State::Closed { .. } => Permission::Go { probe: false },
            State::Open { until, times } if until <= now => {
                self.state = State::Probing { times };
                Permission::Go { probe: true }
            }
            State::Open { until, .. } => Permission::Wait(Some(until)),
            State::Probing { .. } => Permission::Wait(None),
        }
    }

    /// Takes over how an attempt ended.
    pub(super) fn ended(&mut self, probe: bool, verdict: Verdict, now: Instant) {
        self.state = match (self.state, verdict) {
            // A late success of an attempt from before it opened says as much as a probe's.
            (_, Verdict::Success) => State::Closed { failures: 0 },
            (State::Closed { failures }, Verdict::Failure) if failures + 1 >= FAILURES_TO_OPEN => self.open(0, now),
            (State::Closed { failures }, Verdict::Failure) => State::Closed { failures: failures + 1 },
            (State::Probing { times }, Verdict::Failure) if probe => self.open(times + 1, now),
            (State::Probing { times }, Verdict::Unknown) if probe => State::Open { until: now, times },
            (unchanged, _) => unchanged,
        };
    }

    /// Whether attempts are held back.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed { .. })
    }

    fn open(&self, times: u32, now: Instant) -> State {
        let wait = exponential(self.first, self.max, times).mul_f64(rand::random_range(1.0..=1.25));
        State::Open { until: now + wait, times }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(Duration::from_secs(5), Duration::from_secs(3_600));
        for _ in 0..FAILURES_TO_OPEN {
            assert_eq!(breaker.ask(now), Permission::Go { probe: false });
            breaker.ended(false, Verdict::Failure, now);
        }
        breaker
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_only_then() {
        let now = Instant::now();
        let mut breaker = Breaker::new(Duration::from_secs(5), Duration::from_secs(60));
        for _ in 0..5 * FAILURES_TO_OPEN {
            for verdict in [Verdict::Failure, Verdict::Failure, Verdict::Unknown, Verdict::Success] {
                breaker.ended(false, verdict, now);
            }
        }
        assert!(!breaker.is_open());
        assert!(opened(now).is_open());
    }

    #[test]
    fn one_probe_goes_out_when_its_time_is_over() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let Permission::Wait(Some(until)) = breaker.ask(now) else { panic!("it let an attempt out") };
        assert!(until >= now + Duration::from_secs(5));
        assert_eq!(breaker.ask(until), Permission::Go { probe: true });
        assert_eq!(breaker.ask(until), Permission::Wait(None));
        breaker.ended(true, Verdict::Success, until);
        assert_eq!(breaker.ask(until), Permission::Go { probe: false });
    }

    #[test]
    fn failed_probes_wait_longer_up_to_a_minute() {
        let mut now = Instant::now();
        let mut breaker = opened(now);
        for times in 0..10 {
            let Permission::Wait(Some(until)) = breaker.ask(now) else { panic!("it let an attempt out") };
            let base = exponential(Duration::from_secs(5), OPEN_MAX, times);
            assert!(until - now >= base && until - now <= base.mul_f64(1.26), "{times}: {:?}", until - now);
            now = until;
            assert_eq!(breaker.ask(now), Permission::Go { probe: true });
            // Late failures of attempts from before change nothing.
            breaker.ended(false, Verdict::Failure, now);
            breaker.ended(true, Verdict::Failure, now);
        }
    }

    #[test]
    fn a_probe_that_learned_nothing_is_followed_by_another_at_once() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let later = now + Duration::from_secs(60);
        assert_eq!(breaker.ask(later), Permission::Go { probe: true });
        breaker.ended(true, Verdict::Unknown, later);
        assert_eq!(breaker.ask(later), Permission::Go { probe: true });
    }
}
