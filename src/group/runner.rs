//! Runs a group: leases, shares, and a task per owned partition.
//!
//! Once per `group.lease_interval` a worker says that it lives, renews its leases, and compares what it
//! owns with its share: it gives up what is too much and takes what is free.
//!
//! **Invariant:** a lease counts as held only for its time to live from before its last renewal was
//! sent, by our own monotonic clock: in doubt it is lost, and its handler is dropped.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use super::handler::Validity;
use super::partition::{Ended, Waiting, own, poll};
use super::reading::{Board, Reading, read_all};
use super::round::{Answer, Question, ask};
use super::share::share;
use super::worker::{Meters, Worker};
use super::{Group, Lease};
use crate::config::GroupSettings;
use crate::error::Result;
use crate::model::{PartitionId, Partitions};
use crate::shutdown::{Deadline, Shutdown};
use crate::stream::Redis;
use crate::telemetry::Part;

/// A round begins sooner while something is missing from our share, by this factor.
const HURRY: u32 = 4;

/// Runs a [`Group`] as one of its workers.
///
/// ```no_run
/// # use millstream::{group::{Group, Runner}, config::Settings, stream::Redis, model::Partitions, shutdown::Shutdown};
/// # async fn run(group: impl Group, redis: Redis, settings: Settings, partitions: Partitions) -> millstream::Result<()> {
/// Runner::new(redis, settings.group.clone(), partitions)
///     .grace(*settings.shutdown.grace)
///     .run(group, Shutdown::on_signals()?)
///     .await
/// # }
/// ```
pub struct Runner {
    redis: Redis,
    settings: GroupSettings,
    partitions: Partitions,
    grace: Duration,
    part: Option<Part>,
    worker: String,
    status: Arc<RunnerStatus>,
}

/// What a runner says about itself.
#[derive(Debug, Default)]
pub struct RunnerStatus {
    partitions: AtomicU16,
    workers: AtomicU64,
}

impl RunnerStatus {
    /// How many partitions this worker owns.
    pub fn partitions(&self) -> u16 {
        self.partitions.load(Ordering::Relaxed)
    }

    /// How many workers of the group live, as this one sees them.
    pub fn workers(&self) -> u64 {
        self.workers.load(Ordering::Relaxed)
    }
}

impl Runner {
    /// A worker with a made-up name.
    pub fn new(redis: Redis, settings: GroupSettings, partitions: Partitions) -> Self {
        let worker = format!("{}-{}", std::process::id(), uuid::Uuid::new_v4().simple());
        let status = Arc::default();
        Self { redis, settings, partitions, grace: Duration::from_secs(20), part: None, worker, status }
    }

    /// How long a handler may take to finish when the worker stops or hands a partition over.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// The part of the process's readiness that each round trip is reported to.
    #[must_use]
    pub fn readiness(mut self, part: Part) -> Self {
        self.part = Some(part);
        self
    }

    /// Another name of the worker: no two that live may share one.
    #[must_use]
    pub fn named(mut self, worker: impl Into<String>) -> Self {
        self.worker = worker.into();
        self
    }

    /// What it says about itself while it runs.
    pub fn status(&self) -> Arc<RunnerStatus> {
        self.status.clone()
    }

    /// Runs until `shutdown`. Redis being away is no reason to end. Dropping the future is like
    /// killing the worker: what was not acknowledged goes to whoever takes the partitions over.
    ///
    /// # Errors
    /// None so far; whatever will be is no failure of Redis.
    pub async fn run<G: Group>(self, group: G, shutdown: Shutdown) -> Result<()> {
        let name = group.name().to_owned();
        let worker = Arc::new(Worker {
            meters: Meters::new(&name),
            group: name,
            id: self.worker,
            redis: self.redis,
            settings: self.settings,
            board: Board::new(),
        });
        let reading = Reading {
            redis: worker.redis.clone(),
            group: worker.group.clone(),
            worker: worker.id.clone(),
            board: worker.board.clone(),
            settings: worker.settings.clone(),
        };
        let _reader = AbortOnDropHandle::new(tokio::spawn(read_all(reading, self.partitions)));
        let _watcher = AbortOnDropHandle::new(tokio::spawn(super::stats::watch(worker.clone())));
        info!(group = worker.group, worker = worker.id, "worker began");
        let owner = Owner {
            group: Arc::new(group),
            partitions: self.partitions,
            grace: self.grace,
            part: self.part,
            status: self.status,
            owned: HashMap::new(),
            tasks: JoinSet::new(),
            ids: HashMap::new(),
            asking: None,
            next_round: Instant::now(),
            stopping: None,
            worker,
        };
        Box::pin(owner.run(shutdown)).await;
        Ok(())
    }
}

/// The partitions that a worker owns.
struct Owner<G: Group> {
    worker: Arc<Worker>,
    group: Arc<G>,
    partitions: Partitions,
    grace: Duration,
    part: Option<Part>,
    status: Arc<RunnerStatus>,
    owned: HashMap<PartitionId, Owned>,
    tasks: JoinSet<(PartitionId, Ended)>,
    ids: HashMap<Id, PartitionId>,
    asking: Option<Waiting<Answer>>,
    next_round: Instant,
    stopping: Option<Deadline>,
}

/// One owned partition, as its keeper sees it.
struct Owned {
    token: u64,
    say: watch::Sender<bool>,
    stop: watch::Sender<Option<Deadline>>,
    validity: Arc<Validity>,
    is_lost: bool,
}

enum Event {
    Stop,
    Answer(Answer),
    Ended(Result<(Id, (PartitionId, Ended)), JoinError>),
    Lapse,
    Due,
}

impl<G: Group> Owner<G> {
    async fn run(mut self, shutdown: Shutdown) {
        loop {
            if self.stopping.is_some() && self.owned.is_empty() {
                break;
            }
            let lapse = self.next_lapse();
            let due = self.asking.is_none();
            let event = tokio::select! {
                () = shutdown.requested(), if self.stopping.is_none() => Event::Stop,
                answer = poll(&mut self.asking) => Event::Answer(answer),
                Some(ended) = self.tasks.join_next_with_id() => Event::Ended(ended),
                () = tokio::time::sleep_until(lapse) => Event::Lapse,
                () = tokio::time::sleep_until(self.next_round), if due => Event::Due,
            };
            match event {
                Event::Stop => self.stop_all().await,
                Event::Answer(answer) => self.take(answer),
                Event::Ended(ended) => self.ended(ended),
                Event::Lapse => self.lapse(),
                Event::Due => self.start_round(),
            }
            self.show();
        }
        info!(group = self.worker.group, worker = self.worker.id, "worker ended");
    }

    fn start_round(&mut self) {
        let held: Vec<(PartitionId, u64)> = self.held().map(|(p, owned)| (p, owned.token)).collect();
        let question = Question {
            held,
            owned: self.owned.keys().copied().collect(),
            partitions: self.partitions,
            is_stopping: self.stopping.is_some(),
        };
        self.next_round = Instant::now() + *self.worker.settings.lease_interval;
        self.asking = Some(Box::pin(ask(self.worker.clone(), question)));
    }

    fn take(&mut self, answer: Answer) {
        self.asking = None;
        for (p, token, sent_at, renewed) in answer.renewed {
            match renewed {
                Some(true) => self.renewed(p, token, sent_at),
                Some(false) => self.lose(p, token, "another worker may have it"),
                // Unclear: the lease lapses by our clock unless a later renewal succeeds.
                None => {}
            }
        }
        match answer.failure {
            Some(error) => {
                warn!(group = self.worker.group, %error, "failed to renew leases; trying again until it works");
                if let Some(part) = &self.part {
                    part.failed(&error);
                }
                self.next_round = self.next_round.min(Instant::now() + *self.worker.settings.lease_interval / HURRY);
            }
            None => {
                if let Some(part) = &self.part {
                    part.ok();
                }
            }
        }
        for (p, token, sent_at) in answer.acquired {
            self.own(p, token, sent_at);
        }
        if let Some(workers) = answer.workers {
            self.worker.meters.workers.set(workers.len() as f64);
            self.status.workers.store(workers.len() as u64, Ordering::Relaxed);
            let share = share(self.partitions.count(), &workers, &self.worker.id);
            self.keep(share);
            if self.owned.len() < share && self.stopping.is_none() {
                self.next_round = self.next_round.min(Instant::now() + *self.worker.settings.lease_interval / HURRY);
            }
        }
    }

    fn renewed(&mut self, p: PartitionId, token: u64, sent_at: Instant) {
        let ttl = *self.worker.settings.lease_ttl;
        if let Some(owned) = self.owned.get_mut(&p).filter(|owned| owned.token == token) {
            owned.validity.extend(sent_at + valid_for(ttl));
        }
    }

    fn own(&mut self, p: PartitionId, token: u64, sent_at: Instant) {
        if self.owned.contains_key(&p) || self.stopping.is_some() {
            // It lapses by itself; being asked to stop came in between.
            let worker = self.worker.clone();
            self.tasks.spawn(async move {
                release(&worker, p, token).await;
                (p, Ended::Released)
            });
            return;
        }
        let validity = Validity::new(sent_at + valid_for(*self.worker.settings.lease_ttl));
        let (lease, say) = Lease::valid_for(p, token, validity.clone());
        let (stop, asked_to_stop) = watch::channel(None);
        let (worker, group) = (self.worker.clone(), self.group.clone());
        let task = self.tasks.spawn(async move {
            let ended = own(worker.clone(), group, lease, asked_to_stop).await;
            if ended == Ended::Released {
                release(&worker, p, token).await;
            }
            (p, ended)
        });
        self.ids.insert(task.id(), p);
        self.owned.insert(p, Owned { token, say, stop, validity, is_lost: false });
        self.worker.meters.take_overs.increment(1);
        info!(group = self.worker.group, partition = %p, token, "took partition {p}");
    }

    /// Gives up what is more than our share: what was taken last is cheapest to give.
    fn keep(&mut self, share: usize) {
        let mut kept: Vec<(u64, PartitionId)> = self
            .owned
            .iter()
            .filter(|(_, owned)| !owned.is_lost && owned.stop.borrow().is_none())
            .map(|(p, owned)| (owned.token, *p))
            .collect();
        kept.sort_unstable();
        for (_, p) in kept.split_off(share.min(kept.len())) {
            info!(group = self.worker.group, partition = %p, "handing partition {p} over");
            self.stop(p, Deadline::after(self.grace));
        }
    }

    fn stop(&self, p: PartitionId, deadline: Deadline) {
        if let Some(owned) = self.owned.get(&p) {
            owned.stop.send_if_modified(|stop| {
                let is_new = stop.is_none();
                stop.get_or_insert(deadline);
                is_new
            });
        }
    }

    async fn stop_all(&mut self) {
        let deadline = Deadline::after(self.grace);
        self.stopping = Some(deadline);
        let owned: Vec<PartitionId> = self.owned.keys().copied().collect();
        owned.into_iter().for_each(|p| self.stop(p, deadline));
        // The others count without us from now on, and look for what we release.
        if let Err(error) = self.worker.redis.worker_gone(&self.worker.group, &self.worker.id).await {
            warn!(group = self.worker.group, %error, "failed to say goodbye; the others notice by themselves");
        }
    }

    fn ended(&mut self, ended: Result<(Id, (PartitionId, Ended)), JoinError>) {
        let (id, how) = match ended {
            Ok((id, (_, how))) => (id, Some(how)),
            Err(error) => {
                error!(group = self.worker.group, %error, "the task of a partition failed: a defect of ours");
                (error.id(), None)
            }
        };
        let Some(p) = self.ids.remove(&id) else { return };
        self.owned.remove(&p);
        super::stats::clear(&self.worker, p);
        match how {
            Some(Ended::Released) => info!(group = self.worker.group, partition = %p, "released partition {p}"),
            Some(Ended::Lost) | None => {
                self.worker.meters.leases_lost.increment(1);
                warn!(group = self.worker.group, partition = %p, "lost partition {p}");
            }
        }
        self.next_round = self.next_round.min(Instant::now() + *self.worker.settings.lease_interval / HURRY);
    }

    fn lose(&mut self, p: PartitionId, token: u64, why: &str) {
        let group = &self.worker.group;
        if let Some(owned) = self.owned.get_mut(&p).filter(|owned| owned.token == token && !owned.is_lost) {
            warn!(group, partition = %p, "the lease of partition {p} is gone: {why}");
            owned.is_lost = true;
            let _ = owned.say.send(false);
        }
    }

    fn lapse(&mut self) {
        let now = Instant::now();
        let lapsed: Vec<_> =
            self.held().filter(|(_, owned)| owned.validity.until() <= now).map(|(p, owned)| (p, owned.token)).collect();
        for (p, token) in lapsed {
            self.lose(p, token, "it could not be renewed in time");
        }
    }

    fn next_lapse(&self) -> Instant {
        let far = Instant::now() + *self.worker.settings.lease_ttl;
        self.held().map(|(_, owned)| owned.validity.until()).min().unwrap_or(far)
    }

    fn held(&self) -> impl Iterator<Item = (PartitionId, &Owned)> {
        self.owned.iter().filter(|(_, owned)| !owned.is_lost).map(|(p, owned)| (*p, owned))
    }

    fn show(&self) {
        let count = u16::try_from(self.held().count()).unwrap_or(u16::MAX);
        self.status.partitions.store(count, Ordering::Relaxed);
        self.worker.meters.partitions.set(f64::from(count));
    }
}

/// How long a lease counts as held: a tenth less than Redis keeps it, for clocks that differ in speed.
fn valid_for(ttl: Duration) -> Duration {
    ttl - ttl / 10
}

async fn release(worker: &Worker, p: PartitionId, token: u64) {
    if let Err(error) = worker.redis.release_lease(&worker.group, p, token).await {
        warn!(group = worker.group, partition = %p, %error, "failed to release a lease; it lapses by itself");
    }
}
