//! One owned partition: from taking it over to giving it up.
//!
//! A loop that waits for whatever comes first (entries, endings, answers of Redis, the request to
//! stop) and acts on it; at most one acknowledgement and one question to Redis are under way.
//!
//! **Invariant:** what earlier owners left pending is handed out before anything new.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, warn};

use super::asking::Fetched;
use super::fetch::Delivered;
use super::handling::{Event as Handled, Handling};
use super::lane::{Lane, Settling, Which};
use super::reading::{Load, Read};
use super::settle::Flushed;
use super::worker::Worker;
use super::{Delivery, Group, Lease, Settled};
use crate::backoff::{Backoff, exponential};
use crate::error::Kind;
use crate::model::EntryId;
use crate::shutdown::Deadline;
use crate::stream::GroupStream;

/// First and longest wait before an entry is delivered again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How often is looked for entries that are to be delivered again on request.
pub(super) const REPLAYED_INTERVAL: Duration = Duration::from_secs(1);
/// How often is looked for entries that are pending and that nobody has.
pub(super) const STRAYS_INTERVAL: Duration = Duration::from_secs(5);

/// However much is overdue, a look at it doesn't become a busy loop.
const DUE_MIN: Duration = Duration::from_millis(5);

pub(super) type Waiting<T> = Pin<Box<dyn Future<Output = T> + Send>>;
/// The entries that an acknowledgement was for, by lane.
pub(super) type Acked = Vec<(Which, Vec<EntryId>)>;
pub(super) type EntryKey = (Which, EntryId);

/// How the ownership of a partition ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Given up in order: everything is settled or handed back.
    Released,
    /// Another worker has it, or may have it.
    Lost,
}

/// What is done with the partition now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handler is being opened for the first time.
    Opening,
    /// The group and its checkpoint are looked up.
    Preparing,
    /// What is pending from there on is taken over.
    Claiming { from: EntryId, ensure: bool },
    /// The group is to read again after what was accepted last. `left`: no read is under way any more.
    Returning { ensure: bool, left: bool },
    /// New entries come from the reader.
    Live,
}

/// One owned partition.
pub(super) struct Partition<G: Group> {
    pub(super) worker: Arc<Worker>,
    pub(super) group: Arc<G>,
    pub(super) lease: Lease,
    stop: watch::Receiver<Option<Deadline>>,
    pub(super) main: Lane,
    pub(super) again: Lane,
    pub(super) handling: Handling<G>,
    pub(super) phase: Phase,
    load: Arc<Load>,
    /// How much of the queue the load tells of.
    shown: usize,
    pub(super) reads: mpsc::UnboundedReceiver<Read>,
    /// What waits for the handler, in order.
    pub(super) queue: BTreeMap<EntryKey, Delivery>,
    /// What the handler is busy with.
    batch: Vec<EntryKey>,
    /// Entries that were in a batch that panicked: each is handed out by itself.
    suspects: HashSet<EntryKey>,
    /// When to deliver which entry again, as its how many-th time.
    pub(super) retries: BTreeMap<(Instant, Which, EntryId), u64>,
    /// Retries due by then come before anything else, so that order survives a panic.
    recovering: Option<Instant>,
    pub(super) fetching: Option<Waiting<Fetched>>,
    pub(super) fetch_after: Instant,
    pub(super) fetch_backoff: Backoff,
    pub(super) flushing: Option<Waiting<(Flushed, Acked)>>,
    /// Until when few endings wait for more.
    pub(super) flush_after: Instant,
    pub(super) replayed_at: Instant,
    pub(super) replayed_from: Option<EntryId>,
    pub(super) strays_at: Instant,
}

enum Event {
    Stop(Deadline),
    Read(Read),
    Handled(Handled),
    Fetched(Fetched),
    Flushed(Flushed, Acked),
    Due,
}

/// Owns a partition until it is asked to stop or loses the lease. May be dropped at any await: what
/// was not acknowledged comes again.
pub(super) async fn own<G: Group>(
    worker: Arc<Worker>,
    group: Arc<G>,
    lease: Lease,
    stop: watch::Receiver<Option<Deadline>>,
) -> Ended {
    let partition = Partition::new(worker.clone(), group, lease.clone(), stop);
    let ended = tokio::select! {
        biased;
        () = lease.lost() => Ended::Lost,
        ended = Box::pin(partition.run()) => ended,
    };
    worker.board.remove(&lease);
    ended
}

impl<G: Group> Partition<G> {
    fn new(worker: Arc<Worker>, group: Arc<G>, lease: Lease, stop: watch::Receiver<Option<Deadline>>) -> Self {
        let (p, keys) = (lease.partition, worker.redis.keys());
        let stream = |key| GroupStream { key, group: worker.group.clone(), consumer: worker.id.clone() };
        let key = group.stream(keys, p);
        let is_log = key == keys.log(p);
        let load = Arc::new(Load::default());
        let reads = worker.board.join(&lease, key.clone(), load.clone());
        let now = Instant::now();
        Self {
            main: Lane::main(p, stream(key), is_log, EntryId::ZERO),
            again: Lane::again(p, stream(keys.redeliver(p, &worker.group))),
            handling: Handling::new(group.clone(), lease.clone()),
            phase: Phase::Opening,
            shown: 0,
            queue: BTreeMap::new(),
            batch: Vec::new(),
            suspects: HashSet::new(),
            retries: BTreeMap::new(),
            recovering: None,
            fetching: None,
            fetch_after: now,
            fetch_backoff: Backoff::new(Duration::from_millis(50), Duration::from_secs(1)),
            flushing: None,
            flush_after: now,
            replayed_at: now,
            replayed_from: Some(EntryId::ZERO),
            strays_at: now + STRAYS_INTERVAL,
            worker,
            group,
            lease,
            stop,
            load,
            reads,
        }
    }

    async fn run(mut self) -> Ended {
        loop {
            self.feed();
            self.start_flush(false);
            self.start_fetch();
            self.show_load();
            match self.next().await {
                Event::Stop(deadline) => return self.give_up(deadline).await,
                Event::Flushed(Flushed::NotOurs, _) => return Ended::Lost,
                Event::Flushed(Flushed::Settled, acked) => self.flushed(acked),
                Event::Read(read) => self.take_read(read),
                Event::Handled(event) => self.take_handled(event),
                Event::Fetched(fetched) => self.take_fetched(fetched),
                Event::Due => {}
            }
        }
    }

    async fn next(&mut self) -> Event {
        let fetch = self.fetch_due();
        let due = self.flush_due().map_or(fetch, |flush| flush.min(fetch));
        tokio::select! {
            stop = self.stop.wait_for(Option::is_some) => {
                let at_once = Deadline::after(Duration::ZERO);
                Event::Stop(stop.ok().and_then(|stop| *stop).unwrap_or(at_once))
            }
            Some(read) = self.reads.recv() => Event::Read(read),
            event = self.handling.next() => Event::Handled(event),
            fetched = poll(&mut self.fetching) => Event::Fetched(fetched),
            (flushed, acked) = poll(&mut self.flushing) => Event::Flushed(flushed, acked),
            () = tokio::time::sleep_until(due) => Event::Due,
        }
    }

    /// When to look again for what to ask for, without anything having happened.
    fn fetch_due(&self) -> Instant {
        // An answer that is under way, or the handler, wakes us by itself.
        let far = Instant::now() + STRAYS_INTERVAL;
        if self.fetching.is_some() || matches!(self.phase, Phase::Opening) {
            return far;
        }
        let has_place = self.queue.len() < self.worker.settings.read_entries;
        let retry = self.retries.first_key_value().filter(|_| has_place).map(|((at, ..), _)| *at);
        let live = matches!(self.phase, Phase::Live).then(|| self.replayed_at.min(self.strays_at));
        let asks = matches!(self.phase, Phase::Preparing | Phase::Claiming { .. } | Phase::Returning { .. });
        let asking = asks.then_some(self.fetch_after);
        let next = [retry, live, asking].into_iter().flatten().min().unwrap_or(far);
        next.max(self.fetch_after).max(Instant::now() + DUE_MIN)
    }

    pub(super) fn lane(&mut self, which: Which) -> &mut Lane {
        match which {
            Which::Main => &mut self.main,
            Which::Again => &mut self.again,
        }
    }

    pub(super) fn unsettled(&self) -> usize {
        self.main.pending.len() + self.again.pending.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < self.worker.settings.read_entries
            && self.unsettled() < self.worker.settings.unsettled_entries
    }

    // What goes out.

    fn feed(&mut self) {
        if let Some(by) = self.recovering {
            let waiting = self.retries.first_key_value().is_some_and(|((at, ..), _)| *at <= by);
            if waiting || self.fetching.is_some() {
                return;
            }
            self.recovering = None;
        }
        if !self.handling.is_idle() || self.queue.is_empty() || self.phase == Phase::Opening {
            return;
        }
        let mut batch = Vec::new();
        while let Some((key, _)) = self.queue.first_key_value() {
            let suspect = self.suspects.contains(key);
            if batch.len() >= self.worker.settings.read_entries || (suspect && !batch.is_empty()) {
                break;
            }
            batch.extend(self.queue.pop_first().map(|(_, delivery)| delivery));
            if suspect {
                break;
            }
        }
        self.batch = batch.iter().map(|delivery| (Which::of(delivery), delivery.id)).collect();
        self.handling.hand(batch);
    }

    /// Tells the reader how much waits here. It adds what it sends; [`Self::take_read`] takes that off.
    fn show_load(&mut self) {
        let queued = self.queue.len();
        if queued >= self.shown {
            self.load.queued.fetch_add(queued - self.shown, Ordering::Relaxed);
        } else {
            self.load.queued.fetch_sub(self.shown - queued, Ordering::Relaxed);
        }
        self.shown = queued;
        self.load.unsettled.store(self.unsettled(), Ordering::Relaxed);
    }

    // What comes in.

    pub(super) fn accept(&mut self, which: Which, entries: Delivered) {
        let max = self.worker.settings.max_deliveries;
        for (raw, deliveries) in entries {
            if let Some(delivery) = self.lane(which).accept(raw, deliveries, max) {
                self.queue.insert((which, delivery.id), delivery);
            }
        }
    }

    pub(super) fn take_read(&mut self, read: Read) {
        match read {
            Read::Entries(entries) => {
                self.load.queued.fetch_sub(entries.len(), Ordering::Relaxed);
                self.accept(Which::Main, entries.into_iter().map(|raw| (raw, 1)).collect());
            }
            // Entries of a lost answer are pending under our name and were never seen: they are read again.
            Read::Failed(kind) => self.go_back(kind == Kind::NoGroup),
            Read::Skipped => {
                warn!(group = self.worker.group, partition = %self.lease.partition, last = %self.main.pending.last(),
                    "the group stands after entries that it was not given: moving it back");
                self.worker.meters.moved_back.increment(1);
                self.go_back(false);
            }
        }
    }

    fn take_handled(&mut self, event: Handled) {
        let p = self.lease.partition;
        match event {
            Handled::Ready => {
                self.batch.clear();
                if self.phase == Phase::Opening {
                    self.phase = Phase::Preparing;
                }
            }
            Handled::Outcomes(outcomes) => self.take_outcomes(outcomes),
            Handled::OpenFailed(error) => {
                warn!(group = self.worker.group, partition = %p, %error, "failed to open the handler; trying again");
            }
            Handled::Panicked(panic, said) => {
                error!(group = self.worker.group, partition = %p, panic, "the handler panicked: its batch is retried");
                self.take_outcomes(said);
                self.recover();
            }
            Handled::Closed => {}
        }
    }

    pub(super) fn take_outcomes(&mut self, outcomes: Vec<(Delivery, Settled)>) {
        for (delivery, how) in outcomes {
            let (which, id) = (Which::of(&delivery), delivery.id);
            match self.lane(which).settle(delivery, how) {
                Settling::Ended => {
                    self.suspects.remove(&(which, id));
                }
                Settling::Again(deliveries) => {
                    self.worker.meters.retried.increment(1);
                    let wait =
                        exponential(RETRY.0, RETRY.1, u32::try_from(deliveries.saturating_sub(1)).unwrap_or(u32::MAX));
                    self.retries.insert((Instant::now() + wait, which, id), deliveries + 1);
                }
                Settling::Unknown => {}
            }
        }
    }

    /// After a panic: everything that was not settled is delivered again, in order. It counts only
    /// against the batch, whose entries come one by one, so that a bad one is parked and no other.
    fn recover(&mut self) {
        let now = Instant::now();
        let batch: HashSet<EntryKey> = self.batch.drain(..).collect();
        self.suspects.extend(&batch);
        self.queue.clear();
        self.retries.clear();
        for lane in [&self.main, &self.again] {
            for (id, held) in lane.pending.iter() {
                let deliveries = held.deliveries + u64::from(batch.contains(&(lane.which, id)));
                self.retries.insert((now, lane.which, id), deliveries);
            }
        }
        self.recovering = Some(now);
    }
}

/// What is under way, if anything. May be dropped and polled again.
pub(super) async fn poll<T>(under_way: &mut Option<Waiting<T>>) -> T {
    match under_way {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
