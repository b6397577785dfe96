//! Order: one item of a room under way at a time, rooms side by side.
//!
//! Each room that has something waiting has a lane: a queue, and a task that empties it from its
//! head. A lane that is empty is gone. What is queued stays pending in Redis, so losing all of it
//! loses nothing.
//!
//! **Invariant:** an item of a room is attempted only after the one before it was settled.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use metrics::Gauge;
use tokio::task::JoinSet;
use tracing::{error, warn};

use super::dispatch::{Dispatcher, Ended, Site};
use super::held::{Budget, Found, Held};
use super::item::Item;
use crate::group::{Delivery, Handler, Settled, Settler};
use crate::model::Room;
use crate::telemetry::names;

/// The lanes of one partition: what takes its entries.
pub(super) struct Lanes {
    shared: Arc<Shared>,
    tasks: JoinSet<()>,
    budget: Budget,
    waiting: Gauge,
}

struct Shared {
    dispatcher: Arc<Dispatcher>,
    site: Site,
    settler: Settler,
    rooms: Mutex<HashMap<Room, VecDeque<Held>>>,
}

impl Lanes {
    /// Lanes without anything in them.
    pub(super) fn new(dispatcher: Arc<Dispatcher>, site: Site, settler: Settler) -> Self {
        let waiting = metrics::gauge!(names::CALLBACK_WAITING, "endpoint" => dispatcher.endpoint.name.clone());
        Self {
            shared: Arc::new(Shared { dispatcher, site, settler, rooms: Mutex::default() }),
            tasks: JoinSet::new(),
            budget: Budget::new(),
            waiting,
        }
    }

    /// Settles what can be settled at once, and queues the rest.
    fn take(&mut self, delivery: Delivery) {
        let entry = match delivery.entry() {
            Ok(entry) => entry,
            Err(error) => return self.shared.settler.park(delivery, "corrupt", error.to_string()),
        };
        if !self.shared.dispatcher.endpoint.wants.takes(&entry) {
            return self.shared.settler.done(delivery);
        }
        let held = Held::new(delivery, entry.room, &self.budget, &self.waiting);
        let room = held.room.clone();
        let mut rooms = self.shared.rooms();
        match rooms.get_mut(&room) {
            Some(lane) => lane.push_back(held),
            None => {
                rooms.insert(room.clone(), VecDeque::from([held]));
                drop(rooms);
                self.tasks.spawn(run(self.shared.clone(), room));
            }
        }
    }
}

impl Handler for Lanes {
    async fn handle(&mut self, batch: Vec<Delivery>) {
        // A lane's task never panics: what may is caught item by item.
        while self.tasks.try_join_next().is_some() {}
        for delivery in batch {
            self.take(delivery);
        }
    }

    async fn close(mut self, grace: Duration) {
        self.shared.site.stop.cancel();
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        // Attempts that are still under way then end with their tasks, unsettled: they come again.
        let _ = tokio::time::timeout(grace, finished).await;
    }
}

/// Empties the lane of a room.
async fn run(shared: Arc<Shared>, room: Room) {
    while let Some(mut held) = shared.next(&room) {
        let settled = match AssertUnwindSafe(settle(&shared, &mut held)).catch_unwind().await {
            Ok(Some(settled)) => settled,
            Ok(None) => return,
            Err(_) => {
                error!(entry.id = %held.delivery.id, "a defect: calling back panicked");
                Settled::Park { reason: "panic", error: "calling back panicked".into() }
            }
        };
        shared.settler.settle(held.delivery, settled);
    }
}

/// How an entry ended; nothing if it stays unsettled.
async fn settle(shared: &Shared, held: &mut Held) -> Option<Settled> {
    let site = &shared.site;
    let entry = match site.stop.run_until_cancelled(held.open(site)).await? {
        Ok(Found::Entry(entry)) => entry,
        Ok(Found::Gone) => {
            let (group, id) = (&site.group, held.delivery.id);
            warn!(group, entry.id = %id, "entry {id} was trimmed before {group} had it");
            return Some(Settled::Done);
        }
        Err(error) => return Some(corrupt(&error)),
    };
    let replayed = held.delivery.replay_of.is_some();
    let item = match Item::new(site.lease.partition, &entry, replayed) {
        Ok(item) => item,
        Err(error) => return Some(corrupt(&error)),
    };
    match shared.dispatcher.deliver(site, &held.delivery, &item).await {
        Ended::Done => Some(Settled::Done),
        Ended::Park { reason, error } => Some(Settled::Park { reason, error }),
        Ended::Stopped => None,
    }
}

fn corrupt(error: &crate::Error) -> Settled {
    Settled::Park { reason: "corrupt", error: error.to_string() }
}

impl Shared {
    /// The next entry of a room; the lane ends if there is none. Both under one lock, so that an
    /// entry is never put into a lane that has just ended.
    fn next(&self, room: &Room) -> Option<Held> {
        let mut rooms = self.rooms();
        let next = rooms.get_mut(room).and_then(VecDeque::pop_front);
        if next.is_none() {
            rooms.remove(room);
        }
        next
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<Room, VecDeque<Held>>> {
        // Nothing in here panics halfway through a change.
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
