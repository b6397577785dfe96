//! What an owner asks Redis for, in which order, and what it does with the answers.

use std::collections::BTreeMap;

use tokio::time::Instant;
use tracing::{error, info, warn};

use super::Group;
use super::fetch::{self, Again, Page};
use super::gaps;
use super::lane::Which;
use super::partition::{Partition, Phase, REPLAYED_INTERVAL, STRAYS_INTERVAL};
use super::worker::{Worker, now_ms};
use crate::error::{Error, Kind, Result};
use crate::model::{EntryId, PartitionId};
use crate::stream::{GroupStream, MovedBack};

/// An answer, with what is needed to ask again.
pub(super) enum Fetched {
    Prepared(Result<EntryId>),
    Left,
    MovedBack(Result<MovedBack>),
    Page(Result<Page>),
    Again(Which, BTreeMap<u64, Vec<EntryId>>, Result<Again>),
    Strays(Result<Vec<(EntryId, u64)>>),
    Replayed(Result<Page>),
}

impl<G: Group> Partition<G> {
    /// Asks for what is most needed, if nothing is under way: retries before anything new, what was
    /// left pending before what is new, copies last.
    pub(super) fn start_fetch(&mut self) {
        let now = Instant::now();
        if self.fetching.is_some() || now < self.fetch_after || self.phase == Phase::Opening {
            return;
        }
        let (worker, group, p) = (self.worker.clone(), self.group.clone(), self.lease.partition);
        let (stream, is_log) = (self.main.stream.clone(), self.main.is_log());
        let count = self.worker.settings.read_entries;
        if self.phase == Phase::Preparing {
            let token = self.lease.token;
            self.fetching = Some(Box::pin(async move {
                Fetched::Prepared(prepare(&worker, &*group, (p, token), &stream, is_log).await)
            }));
        } else if let Phase::Returning { ensure, left } = self.phase {
            let (token, to) = (self.lease.token, self.main.pending.last());
            self.fetching = Some(Box::pin(async move {
                if !left {
                    worker.board.leave(p).await;
                    return Fetched::Left;
                }
                if ensure && let Err(error) = fetch::ensure_group(&worker, &*group, p, &stream, is_log).await {
                    return Fetched::MovedBack(Err(error));
                }
                Fetched::MovedBack(worker.redis.move_back(p, token, &stream, to).await)
            }));
        } else if self.queue.len() < count && self.start_retries(now) {
            // That is what is asked for.
        } else if let Phase::Claiming { from, ensure } = self.phase {
            if self.has_room() {
                self.fetching = Some(Box::pin(async move {
                    if ensure && let Err(error) = fetch::ensure_group(&worker, &*group, p, &stream, is_log).await {
                        return Fetched::Page(Err(error));
                    }
                    Fetched::Page(fetch::claim_page(worker, stream, from, count).await)
                }));
            }
        } else if now >= self.strays_at {
            self.strays_at = now + STRAYS_INTERVAL;
            let holds = self.main.pending.len();
            self.fetching =
                Some(Box::pin(async move { Fetched::Strays(fetch::perhaps_stray(worker, stream, holds).await) }));
        } else if now >= self.replayed_at {
            self.replayed_at = now + REPLAYED_INTERVAL;
            if self.group.takes_redeliveries() && self.queue.is_empty() && self.has_room() {
                let (stream, from) = (self.again.stream.clone(), self.replayed_from);
                self.fetching =
                    Some(Box::pin(
                        async move { Fetched::Replayed(fetch::replayed(worker, stream, from, count).await) },
                    ));
            }
        }
    }

    fn start_retries(&mut self, now: Instant) -> bool {
        let Some((&(at, which, _), _)) = self.retries.first_key_value() else { return false };
        if at > now {
            return false;
        }
        let mut ids: BTreeMap<u64, Vec<EntryId>> = BTreeMap::new();
        let due: Vec<_> = self
            .retries
            .range(..=(now, Which::Again, EntryId::MAX))
            .filter(|((_, lane, _), _)| *lane == which)
            .take(self.worker.settings.read_entries)
            .map(|(key, deliveries)| (*key, *deliveries))
            .collect();
        for (key, deliveries) in due {
            self.retries.remove(&key);
            // Settled meanwhile, by a task that outlived its handler's panic.
            if self.lane(which).pending.get(key.2).is_some() {
                ids.entry(deliveries).or_default().push(key.2);
            }
        }
        let (worker, stream) = (self.worker.clone(), self.lane(which).stream.clone());
        self.fetching = Some(Box::pin(async move {
            let again = fetch::claim_again(worker, stream, ids.clone()).await;
            Fetched::Again(which, ids, again)
        }));
        true
    }

    /// Takes an answer.
    pub(super) fn take_fetched(&mut self, fetched: Fetched) {
        self.fetching = None;
        let failure = match fetched {
            Fetched::Prepared(Ok(checkpoint)) => {
                self.main.begin(checkpoint);
                self.phase = Phase::Claiming { from: EntryId::ZERO, ensure: false };
                None
            }
            Fetched::Left => {
                // What the last read brought is accepted before it is said how far that is.
                while let Ok(read) = self.reads.try_recv() {
                    self.take_read(read);
                }
                if let Phase::Returning { left, .. } = &mut self.phase {
                    *left = true;
                }
                None
            }
            Fetched::MovedBack(Ok(MovedBack::NotOurs)) => {
                // The lease's keeper will hear so too, and ends us.
                self.fetch_after = Instant::now() + self.fetch_backoff.next();
                return;
            }
            Fetched::MovedBack(Ok(MovedBack::Moved | MovedBack::Stood)) => {
                self.go_live();
                None
            }
            Fetched::Page(Ok(page)) => {
                self.take_page(page);
                None
            }
            Fetched::Again(which, _, Ok(again)) => {
                self.take_again(which, again);
                None
            }
            Fetched::Strays(Ok(perhaps)) => {
                self.take_strays(perhaps);
                None
            }
            Fetched::Replayed(Ok(page)) => {
                self.replayed_from = page.next;
                if !page.entries.is_empty() {
                    self.replayed_at = Instant::now();
                }
                self.accept(Which::Again, page.entries);
                None
            }
            Fetched::Again(which, ids, Err(error)) => {
                let now = Instant::now();
                for (deliveries, ids) in ids {
                    self.retries.extend(ids.into_iter().map(|id| ((now, which, id), deliveries)));
                }
                Some(error)
            }
            Fetched::Replayed(Err(error)) => {
                self.replayed_from = Some(self.again.pending.last().next());
                Some(error)
            }
            Fetched::Prepared(Err(error))
            | Fetched::MovedBack(Err(error))
            | Fetched::Page(Err(error))
            | Fetched::Strays(Err(error)) => Some(error),
        };
        match failure {
            None => self.fetch_backoff.reset(),
            Some(error) => self.fetch_failed(&error),
        }
    }

    fn fetch_failed(&mut self, error: &Error) {
        let (group, p) = (&self.worker.group, self.lease.partition);
        if error.kind() == Kind::NoGroup && matches!(self.phase, Phase::Claiming { .. }) {
            let from = self.main.pending.last().next();
            self.phase = Phase::Claiming { from, ensure: true };
        } else if error.kind() == Kind::NoGroup && self.phase != Phase::Preparing {
            self.go_back(true);
        } else if self.fetch_backoff.attempts() == 0 {
            warn!(group, partition = %p, %error, "failed to ask Redis for pending entries; trying again until it works");
        }
        self.fetch_after = Instant::now() + self.fetch_backoff.next();
    }

    fn take_page(&mut self, page: Page) {
        let (taken, p) = (page.entries.len(), self.lease.partition);
        if !page.destroyed.is_empty() {
            let count = page.destroyed.len();
            self.worker.meters.destroyed.increment(count as u64);
            error!(group = self.worker.group, partition = %p, count, "{count} pending entries were trimmed away unsettled");
        }
        if taken > 0 {
            info!(group = self.worker.group, partition = %p, entries = taken, "took over {taken} pending entries");
        }
        self.accept(Which::Main, page.entries);
        match page.next {
            Some(from) => self.phase = Phase::Claiming { from, ensure: false },
            None => {
                // A group made again at its checkpoint delivers once more what came after it.
                if let Some(last) = page.last_delivered {
                    self.main.pending.pass(last);
                }
                self.go_live();
            }
        }
    }

    /// Has the group read again from what was accepted last: something is missing, or may be.
    pub(super) fn go_back(&mut self, ensure: bool) {
        self.phase = match self.phase {
            Phase::Returning { ensure: before, left } => Phase::Returning { ensure: ensure || before, left },
            Phase::Live => Phase::Returning { ensure, left: false },
            other => other,
        };
    }

    fn go_live(&mut self) {
        self.phase = Phase::Live;
        // A group elsewhere is asked again by those who miss an answer.
        let read_to = self.main.is_log().then(|| self.main.pending.last());
        self.worker.board.want(self.lease.partition, read_to);
    }

    fn take_again(&mut self, which: Which, again: Again) {
        let max = self.worker.settings.max_deliveries;
        for (raw, deliveries) in again.entries {
            if let Some(delivery) = self.lane(which).accept_again(raw, deliveries, max) {
                self.queue.insert((which, delivery.id), delivery);
            }
        }
        if !again.gone.is_empty() {
            let (count, p) = (again.gone.len(), self.lease.partition);
            self.worker.meters.destroyed.increment(count as u64);
            error!(group = self.worker.group, partition = %p, count, "{count} unsettled entries were trimmed away");
        }
        for id in again.gone {
            self.lane(which).gone(id);
        }
    }

    fn take_strays(&mut self, perhaps: Vec<(EntryId, u64)>) {
        let now = Instant::now();
        let strays: Vec<_> = perhaps.into_iter().filter(|(id, _)| self.main.is_stray(*id)).collect();
        if !strays.is_empty() {
            let (count, p) = (strays.len(), self.lease.partition);
            warn!(group = self.worker.group, partition = %p, count, "found {count} pending entries that nobody had");
        }
        for (id, deliveries) in strays {
            self.main.pending.deliver(id, deliveries, now_ms());
            self.retries.insert((now, Which::Main, id), deliveries + 1);
        }
    }
}

async fn prepare<G: Group>(
    worker: &Worker,
    group: &G,
    (p, token): (PartitionId, u64),
    stream: &GroupStream,
    is_log: bool,
) -> Result<EntryId> {
    fetch::ensure_group(worker, group, p, stream, is_log).await?;
    if is_log {
        gaps::mend(worker, p, token, stream).await?;
    }
    worker.redis.tidy_consumers(stream).await?;
    let checkpoint = if is_log { worker.redis.checkpoint(p, &stream.group).await? } else { None };
    Ok(checkpoint.unwrap_or(EntryId::ZERO))
}
