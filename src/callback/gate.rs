//! Whether an endpoint may be called now: paused, asked to wait, or its breaker open.
//!
//! Every attempt, of whatever room and partition, passes the gate of its endpoint. Waiting at it
//! uses up nothing.
//!
//! **Invariant:** between an answer with `Retry-After` and the end of that time no attempt passes;
//! between a pause and its resumption none does.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use super::breaker::{Breaker, Permission, Verdict};
use super::retry::Policy;
use crate::telemetry::names;

/// The gate of one endpoint in one process.
#[derive(Debug)]
pub(super) struct Gate {
    endpoint: String,
    state: Mutex<State>,
    changed: watch::Sender<()>,
    breaker_open: Gauge,
    paused: Gauge,
}

#[derive(Debug)]
struct State {
    paused: bool,
    not_before: Option<Instant>,
    breaker: Breaker,
    /// What other processes, and this one after a restart, have to learn.
    unsaved: Unsaved,
}

/// What has happened at the gate and isn't in Redis yet.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Unsaved {
    /// The endpoint was paused.
    pub(super) pause: bool,
    /// The endpoint asked to wait until then.
    pub(super) not_before: Option<Instant>,
}

impl Unsaved {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

impl Gate {
    /// An open gate.
    pub(super) fn new(endpoint: &str, policy: &Policy) -> Self {
        let label = endpoint.to_owned();
        let gate = Self {
            endpoint: endpoint.to_owned(),
            state: Mutex::new(State {
                paused: false,
                not_before: None,
                breaker: Breaker::new(policy.delay, policy.delay_max),
                unsaved: Unsaved::default(),
            }),
            changed: watch::Sender::new(()),
            breaker_open: metrics::gauge!(names::CALLBACK_BREAKER_OPEN, "endpoint" => label.clone()),
            paused: metrics::gauge!(names::CALLBACK_PAUSED, "endpoint" => label),
        };
        gate.breaker_open.set(0.0);
        gate.paused.set(0.0);
        gate
    }

    /// Waits until an attempt may go out. May be dropped at any time; the [`Pass`] must see how
    /// the attempt ended, and counts as "nothing learned" when it is dropped before.
    pub(super) async fn pass(&self) -> Pass<'_> {
        if let Permission::Go { probe } = self.ask(Instant::now()) {
            return Pass { gate: self, probe, ended: false };
        }
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let until = match self.ask(Instant::now()) {
                Permission::Go { probe } => return Pass { gate: self, probe, ended: false },
                Permission::Wait(until) => until,
            };
            tokio::select! {
                // The sender lives in the gate that we borrow.
                _ = changed.changed() => {}
                () = wait_until(until) => {}
            }
        }
    }

    fn ask(&self, now: Instant) -> Permission {
        let mut state = self.lock();
        if state.paused {
            return Permission::Wait(None);
        }
        match state.not_before {
            Some(until) if until > now => Permission::Wait(Some(until)),
            _ => state.breaker.ask(now),
        }
    }

    /// Pauses the endpoint: it answered that it is gone.
    pub(super) fn pause(&self) {
        let mut state = self.lock();
        if !std::mem::replace(&mut state.paused, true) {
            state.unsaved.pause = true;
            self.paused.set(1.0);
            warn!(endpoint = self.endpoint, "paused {}: it answered 410 Gone", self.endpoint);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Holds all attempts back for `wait`: the endpoint asked for it.
    pub(super) fn hold(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        if state.not_before.is_none_or(|other| other < until) {
            state.not_before = Some(until);
            state.unsaved.not_before = Some(until);
            info!(endpoint = self.endpoint, ?wait, "{} asked to wait", self.endpoint);
        }
        drop(state);
        self.changed.send_replace(());
    }

    /// Waits until there is something to save, and gives it. Call [`Gate::saved`] once it is.
    pub(super) async fn unsaved(&self) -> Unsaved {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let unsaved = self.lock().unsaved;
            if !unsaved.is_nothing() {
                return unsaved;
            }
            let _ = changed.changed().await;
        }
    }

    /// What there is to save now.
    pub(super) fn unsaved_now(&self) -> Option<Unsaved> {
        let unsaved = self.lock().unsaved;
        (!unsaved.is_nothing()).then_some(unsaved)
    }

    /// This has been saved.
    pub(super) fn saved(&self, what: Unsaved) {
        let mut state = self.lock();
        state.unsaved.pause &= !what.pause;
        if state.unsaved.not_before == what.not_before {
            state.unsaved.not_before = None;
        }
    }

    /// Takes over what is saved: it may come from another process, or from before a restart.
    pub(super) fn apply(&self, paused: bool, wait: Option<Duration>) {
        let mut state = self.lock();
        // A pause that isn't saved yet can't have been lifted by anybody.
        let paused = paused || state.unsaved.pause;
        if std::mem::replace(&mut state.paused, paused) != paused {
            self.paused.set(f64::from(u8::from(paused)));
            match paused {
                true => warn!(endpoint = self.endpoint, "{} is paused", self.endpoint),
                false => info!(endpoint = self.endpoint, "resumed {}", self.endpoint),
            }
        }
        let until = wait.map(|wait| Instant::now() + wait);
        state.not_before = state.not_before.max(until);
        drop(state);
        self.changed.send_replace(());
    }

    fn ended(&self, probe: bool, verdict: Verdict) {
        let mut state = self.lock();
        let was_open = state.breaker.is_open();
        state.breaker.ended(probe, verdict, Instant::now());
        let is_open = state.breaker.is_open();
        drop(state);
        if was_open != is_open {
            self.breaker_open.set(f64::from(u8::from(is_open)));
            match is_open {
                true => warn!(endpoint = self.endpoint, "stopped calling {}: it fails again and again", self.endpoint),
                false => info!(endpoint = self.endpoint, "calling {} again", self.endpoint),
            }
        }
        if was_open {
            self.changed.send_replace(());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn wait_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// The permission for one attempt.
#[derive(Debug)]
pub(super) struct Pass<'a> {
    gate: &'a Gate,
    probe: bool,
    ended: bool,
}

impl Pass<'_> {
    /// Says how the attempt ended.
    pub(super) fn ended(mut self, verdict: Verdict) {
        self.ended = true;
        self.gate.ended(self.probe, verdict);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.gate.ended(self.probe, Verdict::Unknown);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;

    use super::*;

    fn gate() -> Arc<Gate> {
        let delay = Duration::from_secs(5);
        Arc::new(Gate::new("a", &Policy { max_retries: 3, max_age: None, delay, delay_max: delay * 100 }))
    }

    fn fail(gate: &Gate, times: usize) {
        for _ in 0..times {
            gate.pass().now_or_never().expect("the gate is open").ended(Verdict::Failure);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_holds_everybody_and_is_never_undercut() {
        let gate = gate();
        let start = Instant::now();
        gate.hold(Duration::from_secs(90));
        gate.hold(Duration::from_secs(30)); // Shorter: the longer one stays.
        let others: Vec<_> = (0..5)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move {
                    gate.pass().await.ended(Verdict::Success);
                    Instant::now()
                })
            })
            .collect();
        for other in others {
            assert!(other.await.unwrap() - start >= Duration::from_secs(90));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_lasts_until_it_is_lifted_from_outside() {
        let gate = gate();
        gate.pause();
        assert!(tokio::time::timeout(Duration::from_secs(86_400), gate.pass()).await.is_err());
        let unsaved = gate.unsaved().await;
        assert!(unsaved.pause);
        gate.apply(false, None); // Read before it was saved: no resumption.
        assert!(gate.pass().now_or_never().is_none());
        gate.saved(unsaved);
        gate.apply(true, None);
        assert!(gate.pass().now_or_never().is_none());
        let waiting = tokio::spawn({
            let gate = gate.clone();
            async move { gate.pass().await.ended(Verdict::Success) }
        });
        tokio::task::yield_now().await;
        gate.apply(false, None);
        waiting.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_breaker_lets_one_probe_through_and_its_success_lets_all() {
        let gate = gate();
        let start = Instant::now();
        fail(&gate, 10);
        assert!(gate.pass().now_or_never().is_none());
        let probe = gate.pass().await;
        assert!(Instant::now() - start >= Duration::from_secs(5));
        assert!(gate.pass().now_or_never().is_none());
        probe.ended(Verdict::Success);
        let passes = [gate.pass().now_or_never(), gate.pass().now_or_never()];
        assert!(passes.iter().all(Option::is_some));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_dropped_makes_room_for_another() {
        let gate = gate();
        fail(&gate, 10);
        drop(gate.pass().await);
        assert!(gate.pass().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_another_process_was_told_holds_here_too() {
        let gate = gate();
        let start = Instant::now();
        gate.apply(false, Some(Duration::from_secs(60)));
        gate.pass().await.ended(Verdict::Success);
        assert!(Instant::now() - start >= Duration::from_secs(60));
    }
}
