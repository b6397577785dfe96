//! Delivering: live entries as they come, pages of replay, and the splice between the two.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::broadcast::{Fit, RoomBatch, before};
use super::super::desk::Order;
use super::super::outbox::{Dropped, SubscriptionId};
use super::subscription::{State, Subscription};
use super::{QUEUED_LOW, Session};
use crate::fault::{self, Fault};
use crate::model::{Ask, Cursor, Entry, EntryId, Page, PartitionId, ResetReason, Room};
use crate::protocol::ServerFrame;
use crate::telemetry::names;

/// Entries of one `replay` frame at most.
const FRAME_ENTRIES: usize = 200;
/// Wait before the next request when the log has not come as far as it must.
const NOT_YET: Duration = Duration::from_millis(100);

impl Session {
    /// Live entries.
    pub(super) fn batch(&mut self, id: SubscriptionId, batch: Arc<RoomBatch>) {
        let held_max = self.edge.settings.edge.catch_up_entries;
        if fault::active(Fault::CursorBeforeDelivery) {
            self.edge.cursors.acked(&self.claims.user, &self.device, batch.room(), batch.last());
        }
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if !subscription.is_live() {
            if !fault::active(Fault::NoSplice) {
                subscription.hold(batch, held_max);
            }
            return;
        }
        match batch.fit(subscription.last) {
            Fit::Known => {}
            Fit::From(index) => {
                let frames = batch.frames(self.subprotocol, index);
                let entries = &batch.entries()[index..];
                subscription.delivered(entries);
                self.ws.get_mut().enqueue(frames);
                self.edge.metrics.delivered_live(entries);
                if subscription.is_closed() {
                    self.to_put_out.push(batch.room().clone());
                }
            }
            Fit::Hole => {
                subscription.fall_behind();
                subscription.hold(batch, held_max);
                self.behind.more();
                self.edge.metrics.tail_holes.increment(1);
                caught_by("hole");
            }
        }
    }

    /// Live entries were dropped, because this connection reads too slowly.
    pub(super) fn dropped(&mut self, dropped: &[Dropped]) {
        for Dropped { subscription, upto } in dropped {
            if let Some(subscription) = self.subscriptions.get_mut(subscription) {
                subscription.missed(*upto);
                if subscription.is_live() {
                    subscription.fall_behind();
                    self.behind.more();
                    caught_by("slow_reader");
                }
            }
        }
    }

    /// The log of a partition may be another than before: each cursor in it is verified.
    pub(super) fn verify(&mut self, partition: PartitionId) {
        let edge = self.edge.clone();
        for subscription in self.subscriptions.values_mut().filter(|other| other.partition == partition) {
            // An answer under way may come from the log as it was.
            match &mut subscription.state {
                State::Live => {
                    subscription.fall_behind();
                    self.behind.more();
                    caught_by("log_changed");
                }
                State::CatchingUp { ask, not_before } => {
                    if let Some(ask) = ask.take() {
                        edge.asks.forget(ask);
                    }
                    *not_before = None;
                }
                State::Joining { ask, .. } => {
                    if let Some(renewed) = edge.asks.renew(*ask) {
                        *ask = renewed;
                        // If the desk has no room for it, it is asked like one that had no answer in time.
                        edge.desks.try_order(&subscription.room, Order::Ask(renewed));
                    }
                }
            }
            subscription.forget_held();
        }
    }

    /// Asks for the next page of every subscription that is behind, once the socket has taken the last.
    pub(super) async fn ask_due_pages(&mut self) {
        if self.wire().queued() >= QUEUED_LOW {
            return;
        }
        let now = Instant::now();
        let mut due = Vec::new();
        for subscription in self.subscriptions.values_mut() {
            if let State::CatchingUp { ask: ask @ None, not_before } = &mut subscription.state
                && not_before.is_none_or(|moment| moment <= now)
            {
                let number = self.edge.asks.open(&self.outbox, &subscription.room, Ask::Page(subscription.last), None);
                metrics::counter!(names::ASKS, "kind" => "page").increment(1);
                *ask = Some(number);
                due.push((subscription.room.clone(), number));
            }
        }
        for (room, number) in due {
            self.edge.desks.order(&room, Order::Ask(number)).await;
        }
    }

    /// Entries of a page, then whatever comes after it: another page, or what was held, live.
    pub(super) fn page(&mut self, id: SubscriptionId, page: &Page) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let entries = &page.entries[page.entries.partition_point(|entry| entry.id <= subscription.last.id)..];
        let room = subscription.room.clone();
        if !follows(subscription.last, entries) {
            // The worker promises density; a page that breaks the promise is asked for again.
            tracing::error!(connection = %self.name, after = %subscription.last, "refused a page with a hole in it");
            subscription.state = State::CatchingUp { ask: None, not_before: Some(Instant::now() + NOT_YET) };
            return;
        }
        subscription.delivered(entries);
        subscription.last = subscription.last.max(Cursor::new(page.upto.id, subscription.last.seq));
        // Nothing passes a subscription by that the tail has not reached; a tail that went back, because
        // the log had lost its end, will not reach it again.
        let tail = self.edge.tail.reached(subscription.partition).unwrap_or(EntryId::MAX);
        subscription.must_reach = subscription.must_reach.min(tail);
        let reached = subscription.last.id >= subscription.must_reach;
        if page.more || !reached {
            let not_before = (!page.more).then(|| Instant::now() + NOT_YET);
            subscription.state = State::CatchingUp { ask: None, not_before };
        }
        if !entries.is_empty() {
            self.edge.metrics.replayed.increment(entries.len() as u64);
            self.say_replay(&room, entries, page.more);
        }
        if !page.more && reached {
            self.go_live(id);
        }
    }

    /// A page in frames that a slow phone gets on with.
    fn say_replay(&mut self, room: &Room, entries: &[Entry], more: bool) {
        let last = entries.len().div_ceil(FRAME_ENTRIES).saturating_sub(1);
        for (at, entries) in entries.chunks(FRAME_ENTRIES).enumerate() {
            self.say(&ServerFrame::Replay { room, entries, more: more || at < last });
        }
    }

    /// The catch-up is complete: what was held goes out, and from now on entries as they come.
    fn go_live(&mut self, id: SubscriptionId) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.state = State::Live;
        self.behind.fewer();
        metrics::histogram!(names::CATCH_UP_SECONDS).record(subscription.behind_since.elapsed());
        let (room, seq) = (subscription.room.clone(), subscription.last.seq);
        self.say(&ServerFrame::Live { room: &room, seq });
        while let Some(held) =
            self.subscriptions.get_mut(&id).filter(|other| other.is_live()).and_then(Subscription::next_held)
        {
            self.batch(id, held);
        }
        if self.subscriptions.get(&id).is_some_and(Subscription::is_closed) {
            self.to_put_out.push(room);
        }
    }

    /// Delivery can't go on where it was: the client is told, and it goes on after `from`.
    pub(super) fn reset(&mut self, id: SubscriptionId, reason: ResetReason, from: Cursor) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.begin_after(from);
        // In another history an old seq means nothing.
        subscription.acked = subscription.acked.min(from.seq);
        let room = subscription.room.clone();
        metrics::counter!(names::RESETS, "reason" => reason.as_str()).increment(1);
        self.say(&ServerFrame::Reset { room: &room, reason, from });
    }
}

/// Whether entries come right after a cursor, and each after the one before.
fn follows(mut at: Cursor, entries: &[Entry]) -> bool {
    entries.iter().all(|entry| {
        let follows = before(entry) == at.seq && entry.id > at.id;
        at = entry.cursor();
        follows
    })
}

fn caught_by(cause: &'static str) {
    metrics::counter!(names::CATCH_UPS, "cause" => cause).increment(1);
}
