//! Runs one [`Handler`] in a task of its own, so that a panic ends the task and nothing else.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{Delivery, Group, Handler, Lease, Settled, Settler};
use crate::backoff::Backoff;
use crate::error::Result;

/// Outcomes that are taken from a handler at once.
const OUTCOMES_MAX: usize = 4_096;
/// First and longest wait before a handler is opened again.
const REOPEN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// The handler of one partition: being opened, or at work. Dropping it stops the handler at once.
pub(super) struct Handling<G: Group> {
    group: Arc<G>,
    lease: Lease,
    state: State<G::Handler>,
    outcomes: Option<mpsc::UnboundedReceiver<(Delivery, Settled)>>,
    backoff: Backoff,
}

enum State<H> {
    /// Until when to wait before it is opened.
    Waiting(Instant),
    Opening(AbortOnDropHandle<Result<H>>),
    Working {
        work: mpsc::Sender<Work>,
        ready: mpsc::Receiver<()>,
        task: AbortOnDropHandle<()>,
        idle: bool,
    },
    Ending(AbortOnDropHandle<()>),
    Closed,
}

enum Work {
    Batch(Vec<Delivery>),
    Close(Duration),
}

/// What a handler did.
#[derive(Debug)]
pub(super) enum Event {
    /// It is open, or has finished a batch.
    Ready,
    /// Entries ended.
    Outcomes(Vec<(Delivery, Settled)>),
    /// It could not be opened; it is tried again after a while.
    OpenFailed(crate::Error),
    /// It panicked, and had said this before; it is opened again after a while.
    Panicked(String, Vec<(Delivery, Settled)>),
    /// It was closed, and all it had to say was said.
    Closed,
}

impl<G: Group> Handling<G> {
    pub(super) fn new(group: Arc<G>, lease: Lease) -> Self {
        let state = State::Waiting(Instant::now());
        Self { group, lease, state, outcomes: None, backoff: Backoff::new(REOPEN.0, REOPEN.1) }
    }

    /// Whether it would take a batch now.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.state, State::Working { idle: true, .. })
    }

    /// Hands a batch over; only while it is [idle](Handling::is_idle).
    pub(super) fn hand(&mut self, batch: Vec<Delivery>) {
        if let State::Working { work, idle, .. } = &mut self.state {
            *idle = false;
            // It has room: one batch and one closing at most are under way.
            let _ = work.try_send(Work::Batch(batch));
        }
    }

    /// Closes it after the batch that it has. One that isn't open yet is dropped.
    pub(super) fn close(&mut self, grace: Duration) {
        match &self.state {
            State::Working { work, .. } => {
                let _ = work.try_send(Work::Close(grace));
            }
            _ => self.state = State::Closed,
        }
    }

    /// What it does next. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            let step = match &mut self.state {
                State::Waiting(until) => {
                    tokio::time::sleep_until(*until).await;
                    Step::Open
                }
                State::Opening(opening) => Step::Opened(opening.await),
                State::Working { ready, .. } => {
                    let (told, outcomes) = (self.outcomes.is_some(), self.outcomes.as_mut());
                    tokio::select! {
                        outcomes = take(outcomes), if told => match outcomes {
                            Some(outcomes) => return Event::Outcomes(outcomes),
                            None => Step::NoMore,
                        },
                        more = ready.recv() => if more.is_some() { Step::Ready } else { Step::Ended },
                    }
                }
                State::Ending(task) => Step::Over(task.await),
                State::Closed => match take(self.outcomes.as_mut()).await {
                    // Tasks of the handler that outlive it are not waited for.
                    Some(outcomes) => return Event::Outcomes(outcomes),
                    None => return Event::Closed,
                },
            };
            if let Some(event) = self.take_step(step) {
                return event;
            }
        }
    }

    fn take_step(&mut self, step: Step<G::Handler>) -> Option<Event> {
        match step {
            Step::Open => {
                self.open();
                None
            }
            Step::Opened(Ok(Ok(handler))) => {
                let (work, todo) = mpsc::channel(2);
                let (say, ready) = mpsc::channel(2);
                let task = AbortOnDropHandle::new(tokio::spawn(serve(handler, todo, say)));
                self.state = State::Working { work, ready, task, idle: true };
                Some(Event::Ready)
            }
            Step::Opened(Ok(Err(error))) => Some(self.again(Event::OpenFailed(error))),
            Step::Opened(Err(panic)) => {
                let said = self.drain();
                Some(self.again(Event::Panicked(describe(panic), said)))
            }
            Step::Ready => {
                self.backoff.reset();
                if let State::Working { idle, .. } = &mut self.state {
                    *idle = true;
                }
                Some(Event::Ready)
            }
            Step::NoMore => {
                self.outcomes = None;
                None
            }
            Step::Ended => {
                if let State::Working { task, .. } = std::mem::replace(&mut self.state, State::Closed) {
                    self.state = State::Ending(task);
                }
                None
            }
            Step::Over(Ok(())) => {
                self.state = State::Closed;
                self.last_outcomes_only();
                None
            }
            Step::Over(Err(panic)) => {
                let said = self.drain();
                Some(self.again(Event::Panicked(describe(panic), said)))
            }
        }
    }

    fn open(&mut self) {
        let (settler, outcomes) = Settler::channel();
        self.outcomes = Some(outcomes);
        let (group, lease) = (self.group.clone(), self.lease.clone());
        let opening = tokio::spawn(async move { group.open(lease, settler).await });
        self.state = State::Opening(AbortOnDropHandle::new(opening));
    }

    fn again(&mut self, event: Event) -> Event {
        self.state = State::Waiting(Instant::now() + self.backoff.next());
        event
    }

    /// What was said before the end still counts; what tasks of the handler say later doesn't.
    fn last_outcomes_only(&mut self) {
        if let Some(outcomes) = &mut self.outcomes {
            outcomes.close();
        }
    }

    fn drain(&mut self) -> Vec<(Delivery, Settled)> {
        self.last_outcomes_only();
        let mut said = Vec::new();
        while let Some(outcome) = self.outcomes.as_mut().and_then(|outcomes| outcomes.try_recv().ok()) {
            said.push(outcome);
        }
        said
    }
}

enum Step<H> {
    Open,
    Opened(Result<Result<H>, JoinError>),
    Ready,
    NoMore,
    Ended,
    Over(Result<(), JoinError>),
}

async fn serve<H: Handler>(mut handler: H, mut todo: mpsc::Receiver<Work>, ready: mpsc::Sender<()>) {
    while let Some(work) = todo.recv().await {
        match work {
            Work::Batch(batch) => {
                handler.handle(batch).await;
                let _ = ready.send(()).await;
            }
            Work::Close(grace) => {
                handler.close(grace).await;
                return;
            }
        }
    }
}

/// The outcomes that are there; waits for the first. Nothing: there will be no more.
async fn take(outcomes: Option<&mut mpsc::UnboundedReceiver<(Delivery, Settled)>>) -> Option<Vec<(Delivery, Settled)>> {
    let outcomes = outcomes?;
    let mut taken = Vec::new();
    (outcomes.recv_many(&mut taken, OUTCOMES_MAX).await > 0).then_some(taken)
}

fn describe(error: JoinError) -> String {
    if !error.is_panic() {
        return "was cancelled".into();
    }
    let panic = error.into_panic();
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref().cloned());
    text.unwrap_or_else(|| "panicked".into())
}
