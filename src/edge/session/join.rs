//! Joining and leaving rooms.

use std::time::{Duration, Instant};

use super::super::desk::{Order, step};
use super::super::outbox::SubscriptionId;
use super::Session;
use super::subscription::{State, Subscription};
use crate::auth::Access;
use crate::config::FirstJoin;
use crate::error::Result;
use crate::model::{Ask, EntryId, Room, Since};
use crate::protocol::{ErrorCode, LeftReason, Refusal, RequestRef, ServerFrame, SinceAsked};
use crate::stream::Step;
use crate::telemetry::names;

/// How long what was read at `hello` is good for joins: a client joins its rooms right after it.
const SAVED_FRESH: Duration = Duration::from_secs(5);
/// Wait for the tail to cover a partition before the join goes on without it.
const COVER_WAIT: Duration = Duration::from_millis(250);
/// When a client is told to try again if Redis or the replay workers can't be asked now.
pub(super) const RETRY_MS: u64 = 1_000;

impl Session {
    /// Every connection follows its inbox and the room of all.
    pub(super) async fn join_own_rooms(&mut self) {
        for room in [Room::inbox(&self.claims.user), Room::all()] {
            if let Ok((since, read)) = self.saved_position(&room).await {
                // Not in vain: without an answer it is asked again for ever.
                self.subscribe(room, None, since, read, None).await;
            }
        }
    }

    pub(super) async fn join(&mut self, request_ref: Option<RequestRef>, room: &str, since: SinceAsked) {
        let refusal = |code, message| Refusal::new(code, message).in_room(room);
        let checked = match Room::new(room) {
            Err(_) => Err(refusal(ErrorCode::BadRoom, "not a name of a room")),
            Ok(room_name) if !self.claims.rights.allows(&room_name, Access::Read) => {
                Err(refusal(ErrorCode::Forbidden, "the token does not grant reading this room"))
            }
            Ok(room_name) if !self.rooms.contains_key(&room_name) && self.rooms_full() => {
                Err(refusal(ErrorCode::TooManyRooms, "as many rooms are joined as limits.rooms allows"))
            }
            Ok(room_name) => Ok(room_name),
        };
        let room = match checked {
            Ok(room) => room,
            Err(refusal) => return self.refuse(&refusal.to(request_ref)),
        };
        match self.position(&room, since).await {
            Ok((since, read)) => {
                let patience = *self.edge.settings.edge.join_timeout;
                self.subscribe(room, request_ref, since, read, Some(patience)).await;
            }
            Err(_) => {
                let refusal = Refusal::new(ErrorCode::Unavailable, "the saved cursor can't be read now");
                self.refuse(&refusal.in_room(&room).to(request_ref).retry_after_ms(RETRY_MS));
            }
        }
    }

    /// The system's own rooms don't count: the client did not choose them.
    fn rooms_full(&self) -> bool {
        self.rooms.keys().filter(|room| !room.is_system()).count() >= self.edge.settings.limits.rooms
    }

    /// Where delivery begins, and the user's read marker.
    async fn position(&mut self, room: &Room, since: SinceAsked) -> Result<(Since, u64)> {
        let (saved, read) = self.saved_position(room).await?;
        let since = match since {
            SinceAsked::Saved => saved,
            SinceAsked::Start => Since::Start,
            SinceAsked::Now => Since::Now,
            SinceAsked::Last(n) => Since::Last(n),
            SinceAsked::Cursor(cursor) => Since::Cursor(cursor),
        };
        Ok((since, read))
    }

    /// What `"saved"` means in a room, and the user's read marker.
    async fn saved_position(&mut self, room: &Room) -> Result<(Since, u64)> {
        if self.saved.as_ref().is_some_and(|saved| saved.loaded.elapsed() > SAVED_FRESH) {
            self.saved = None;
        }
        let (cursor, read) = match &self.saved {
            Some(saved) => (saved.cursors.get(room).copied(), saved.read.get(room).copied().unwrap_or(0)),
            None => self.edge.redis.cursor_in(&self.claims.user, &self.device, room).await?,
        };
        let read = read.max(self.edge.cursors.unwritten_read(&self.claims.user, room));
        // What this edge has not written yet is newer.
        let cursor = self.edge.cursors.unwritten(&self.claims.user, &self.device, room).or(cursor);
        let since = match cursor {
            Some(cursor) => Since::Cursor(cursor),
            None if room.is_system() && read > 0 => Since::Seq(read),
            None if *room == Room::all() => Since::Now,
            None if room.is_system() => Since::Start,
            None => match self.edge.settings.edge.first_join_last {
                FirstJoin::Start => Since::Start,
                FirstJoin::Last(n) => Since::Last(n),
            },
        };
        Ok((since, read))
    }

    /// Follows a room from now on, in the state *joining*; one that is followed already begins anew.
    async fn subscribe(
        &mut self,
        room: Room,
        request_ref: Option<RequestRef>,
        since: Since,
        read: u64,
        patience: Option<Duration>,
    ) {
        let edge = self.edge.clone();
        let again = self.drop_subscription(&room).is_some();
        let partition = edge.partitions.of(&room);
        if !edge.tail.enter(partition) {
            // Mostly a round trip; if Redis is away, the join goes on and waits elsewhere.
            let _ = tokio::time::timeout(COVER_WAIT, edge.tail.covered(partition)).await;
        }
        let id = SubscriptionId(self.next_subscription);
        self.next_subscription += 1;
        edge.registry.subscribe(&room, id, &self.outbox);
        // After registering: what the tail hands out from now on reaches us, what it has handed out
        // before must come by replay.
        let must_reach = edge.tail.reached(partition).unwrap_or(EntryId::MAX);
        let ask = edge.asks.open(&self.outbox, &room, Ask::Join(since), patience);
        metrics::counter!(names::ASKS, "kind" => "join").increment(1);
        let state = State::Joining { request_ref, ask, read };
        let subscription = Subscription::new(id, room.clone(), partition, must_reach, state);
        self.subscriptions.insert(id, subscription);
        self.rooms.insert(room.clone(), id);
        metrics::gauge!(names::SUBSCRIPTIONS).increment(1.0);
        let order = if room.is_system() || again {
            Order::Ask(ask)
        } else {
            let step = step(Step::Join, &room, &self.claims.user, &self.name);
            Order::Join { step, ask }
        };
        edge.desks.order(&room, order).await;
    }

    pub(super) async fn leave(&mut self, request_ref: Option<RequestRef>, room: &str) {
        if let Ok(room) = Room::new(room) {
            self.end_stay(&room, Step::Leave).await;
        }
        self.say(&ServerFrame::Left { request_ref: request_ref.as_ref(), room, reason: None });
    }

    /// Ends following a room that the client did not ask to leave.
    pub(super) async fn put_out(&mut self, room: &Room, reason: LeftReason) {
        if self.rooms.contains_key(room) {
            self.end_stay(room, Step::Leave).await;
            self.say(&ServerFrame::Left { request_ref: None, room, reason: Some(reason) });
        }
    }

    pub(super) async fn end_stay(&mut self, room: &Room, how: Step) {
        if self.drop_subscription(room).is_some() && !room.is_system() {
            let step = step(how, room, &self.claims.user, &self.name);
            self.edge.desks.order(room, Order::Count(step)).await;
        }
    }

    fn drop_subscription(&mut self, room: &Room) -> Option<Subscription> {
        let id = self.rooms.remove(room)?;
        let subscription = self.subscriptions.remove(&id)?;
        if matches!(subscription.state, State::CatchingUp { .. }) {
            self.behind.fewer();
        }
        self.edge.registry.unsubscribe(room, self.outbox.connection);
        self.edge.tail.exit(subscription.partition);
        if let Some(ask) = subscription.ask() {
            self.edge.asks.forget(ask);
        }
        metrics::gauge!(names::SUBSCRIPTIONS).decrement(1.0);
        Some(subscription)
    }

    /// Counts this connection's stays again: the edge was taken for dead.
    pub(super) async fn count_again(&mut self) {
        let rooms: Vec<Room> = self.rooms.keys().filter(|room| !room.is_system()).cloned().collect();
        for room in rooms {
            let step = step(Step::Join, &room, &self.claims.user, &self.name);
            self.edge.desks.order(&room, Order::Count(step)).await;
        }
    }

    /// The earliest moment at which a page is due that had to wait.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let due = |subscription: &Subscription| match subscription.state {
            State::CatchingUp { ask: None, not_before } => not_before,
            _ => None,
        };
        if self.behind.is_none() { None } else { self.subscriptions.values().filter_map(due).min() }
    }
}
