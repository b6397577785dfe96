//! Takes one item to its endpoint: attempt after attempt, until it is accepted or given up.
//!
//! A [`Dispatcher`] belongs to one endpoint and serves all its partitions in the process, so that
//! its limits hold for them together.
//!
//! **Invariant:** what is not the endpoint's doing (our shutdown, a lost lease, our resolver or
//! network, Redis, a closed gate) uses up none of an item's attempts.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::breaker::Verdict;
use super::caller::{ACCEPTED, Answer, Caller, Failure};
use super::clock::{Clock, millis};
use super::endpoint::Endpoint;
use super::gate::{Gate, Pass};
use super::item::Item;
use super::ledger::{Ledger, Record};
use super::retry::Next;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::group::{Delivery, Lease};
use crate::stream::Redis;
use crate::telemetry::names;

/// First and longest wait after a fault of our own.
const OURS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Everything that the attempts at one endpoint share.
#[derive(Debug)]
pub(super) struct Dispatcher {
    /// The endpoint.
    pub(super) endpoint: Endpoint,
    /// Whether it may be called now.
    pub(super) gate: Gate,
    /// What ages and waits are measured by.
    pub(super) clock: Clock,
    caller: Caller,
    slots: Semaphore,
    in_flight: Gauge,
    accepted: Counter,
    seconds: Histogram,
}

/// Where a dispatcher works: one partition, as long as its lease lasts.
pub(super) struct Site {
    /// The permission.
    pub(super) lease: Lease,
    /// What is known of earlier attempts.
    pub(super) ledger: Ledger,
    /// The group, for keys and logs.
    pub(super) group: String,
    /// Where entries without content are read again; nothing in tests.
    pub(super) redis: Option<Redis>,
    /// Cancelled when no attempt may begin any more.
    pub(super) stop: CancellationToken,
}

/// How an item ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The endpoint accepted it.
    Done,
    /// It is given up.
    Park {
        /// A word of a closed set.
        reason: &'static str,
        /// What was wrong, for people.
        error: String,
    },
    /// It stays unsettled: we stop.
    Stopped,
}

/// The right to make one attempt now.
struct Turn<'a> {
    pass: Pass<'a>,
    _slot: SemaphorePermit<'a>,
}

impl Dispatcher {
    /// A dispatcher for `endpoint`.
    ///
    /// # Errors
    /// As [`Caller::new`].
    pub(super) fn new(endpoint: Endpoint) -> Result<Self> {
        let name = endpoint.name.clone();
        Ok(Self {
            caller: Caller::new(&endpoint)?,
            gate: Gate::new(&name, &endpoint.policy),
            clock: Clock::new(),
            slots: Semaphore::new(endpoint.concurrency),
            in_flight: metrics::gauge!(names::CALLBACK_IN_FLIGHT, "endpoint" => name.clone()),
            accepted: attempts(&name, ACCEPTED),
            seconds: metrics::histogram!(names::CALLBACK_SECONDS, "endpoint" => name),
            endpoint,
        })
    }

    /// Attempts `item` until it has ended. May be dropped at any time: then it comes again.
    pub(super) async fn deliver(&self, site: &Site, delivery: &Delivery, item: &Item) -> Ended {
        let mut record = site.ledger.take(delivery);
        let mut due =
            Some(record.wait(self.clock.now_ms())).filter(|wait| !wait.is_zero()).map(|wait| Instant::now() + wait);
        let mut ours = Backoff::new(OURS.0, OURS.1);
        let ended = loop {
            let Some(turn) = site.stop.run_until_cancelled(self.turn(due)).await else { return Ended::Stopped };
            if site.stop.is_cancelled() || !site.lease.is_held() {
                return Ended::Stopped;
            }
            if self.endpoint.policy.is_too_old(self.age(item)) {
                break too_old(&record, "it waited longer than max_age");
            }
            match self.attempt(turn, item).await {
                Answer::Accepted => break Ended::Done,
                Answer::Gone => {}
                Answer::Ours(why) => {
                    if ours.attempts() == 0 {
                        let endpoint = &self.endpoint.name;
                        warn!(endpoint, why, "could not call {endpoint} for reasons of our own");
                    }
                    due = Some(Instant::now() + ours.next());
                }
                Answer::Failed(failure) => {
                    record.failures = record.failures.saturating_add(1);
                    match self.after(&failure, &mut record, item) {
                        Ok(wait) => due = Some(Instant::now() + wait),
                        Err(given_up) => break given_up,
                    }
                    site.ledger.failed(delivery, record).await;
                }
            }
        };
        if record.failures > 0 {
            site.ledger.settled(delivery).await;
        }
        ended
    }

    /// Waits until it is this item's turn. The gate comes last, so that what it says is still true
    /// when the attempt begins; nobody is delayed by a slot that waits there, because nobody else
    /// may pass either.
    async fn turn(&self, due: Option<Instant>) -> Turn<'_> {
        if let Some(due) = due {
            tokio::time::sleep_until(due).await;
        }
        let slot = self.slots.acquire().await.expect("the semaphore is never closed");
        Turn { pass: self.gate.pass().await, _slot: slot }
    }

    async fn attempt(&self, turn: Turn<'_>, item: &Item) -> Answer {
        let start = Instant::now();
        let mut under_way = UnderWay::new(self);
        let answer = self.caller.attempt(&self.endpoint, item, self.clock.now_ms()).await;
        under_way.outcome = answer.outcome();
        drop(under_way);
        self.seconds.record(start.elapsed());
        let (endpoint, outcome) = (&self.endpoint.name, answer.outcome());
        debug!(endpoint, outcome, webhook.id = item.id, elapsed = ?start.elapsed(), "attempted {}: {outcome}", item.id);
        // The gate learns it before the turn ends, so that nobody slips through in between.
        let verdict = match &answer {
            Answer::Accepted => Verdict::Success,
            Answer::Gone => {
                self.gate.pause();
                Verdict::Unknown
            }
            Answer::Ours(_) => Verdict::Unknown,
            Answer::Failed(failure) => {
                if let (true, Some(wait)) = (failure.holds_all, failure.retry_after) {
                    self.gate.hold(wait);
                }
                Verdict::Failure
            }
        };
        turn.pass.ended(verdict);
        answer
    }

    fn age(&self, item: &Item) -> Duration {
        Duration::from_millis(self.clock.now_ms().saturating_sub(item.accepted_ms))
    }

    /// The wait before the next attempt, or how the item ended.
    fn after(&self, failure: &Failure, record: &mut Record, item: &Item) -> Result<Duration, Ended> {
        match self.endpoint.policy.next(record.failures, self.age(item), failure.retry_after) {
            Next::Again(wait) => {
                record.due_ms = self.clock.now_ms().saturating_add(millis(wait));
                Ok(wait)
            }
            Next::TooOld => Err(too_old(record, &failure.why)),
            Next::Exhausted => {
                let error = format!("attempt {} failed and was the last: {}", record.failures, failure.why);
                Err(Ended::Park { reason: "attempts_exhausted", error })
            }
        }
    }
}

fn too_old(record: &Record, why: &str) -> Ended {
    let error = format!("older than max_age (failed attempts: {}): {why}", record.failures);
    Ended::Park { reason: "too_old", error }
}

/// An attempt under way. However it ends it is counted: one that is dropped may have reached its endpoint.
struct UnderWay<'a> {
    dispatcher: &'a Dispatcher,
    outcome: &'static str,
    _in_flight: Counted,
}

impl<'a> UnderWay<'a> {
    fn new(dispatcher: &'a Dispatcher) -> Self {
        let in_flight = Counted::new(&dispatcher.in_flight);
        Self { dispatcher, outcome: "abandoned", _in_flight: in_flight }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        match self.outcome {
            ACCEPTED => self.dispatcher.accepted.increment(1),
            outcome => attempts(&self.dispatcher.endpoint.name, outcome).increment(1),
        }
    }
}

/// The counter of attempts with this outcome.
fn attempts(endpoint: &str, outcome: &'static str) -> Counter {
    metrics::counter!(names::CALLBACK_ATTEMPTS, "endpoint" => endpoint.to_owned(), "outcome" => outcome)
}

/// One, in a gauge, for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted(Gauge);

impl Counted {
    /// Counts one more.
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
