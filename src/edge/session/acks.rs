//! What the client says it has taken over: cursors and read markers.
//!
//! **Invariant:** a cursor that is saved is not ahead of what was acknowledged.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::desk::Order;
use super::Session;
use crate::model::{Answer, Ask, Cursor, EntryKind, Room};
use crate::protocol::{ErrorCode, Refusal, RequestRef};
use crate::telemetry::names;

/// Acknowledgements of messages so long ago that their ids are not at hand any more.
#[derive(Debug, Default)]
pub(super) struct Acks {
    resolving: HashMap<u64, (Room, u64)>,
}

impl Acks {
    pub(super) fn is_waiting_for(&self, ask: u64) -> bool {
        self.resolving.contains_key(&ask)
    }

    pub(super) fn asks(&self) -> impl Iterator<Item = u64> {
        self.resolving.keys().copied()
    }
}

impl Session {
    /// Everything up to `seq` has been taken over by the client; with `read`, also read by the user.
    pub(super) async fn ack(&mut self, request_ref: Option<RequestRef>, room: &str, seq: u64, read: bool) {
        let Some(subscription) = self.subscription(room) else {
            let refusal = Refusal::new(ErrorCode::NotJoined, "the room is not joined").in_room(room);
            return self.refuse(&refusal.to(request_ref));
        };
        if seq > subscription.last.seq {
            let refusal = Refusal::new(ErrorCode::BadSeq, "no message with this seq was delivered").in_room(room);
            return self.refuse(&refusal.to(request_ref));
        }
        let room = subscription.room.clone();
        let newer = seq > subscription.acked;
        let id = subscription.id_of(seq);
        if newer {
            subscription.acked_upto(seq);
        }
        // What was read at `hello` is old news from now on.
        self.saved = None;
        if read {
            self.edge.cursors.read(&self.claims.user, &room, seq);
        }
        match id {
            _ if !newer => {}
            Some(id) => self.edge.cursors.acked(&self.claims.user, &self.device, &room, Cursor::new(id, seq)),
            None => {
                Box::pin(self.look_up(room, seq)).await;
            }
        }
    }

    /// Asks for the id of a message that was delivered long ago.
    async fn look_up(&mut self, room: Room, seq: u64) {
        // A later acknowledgement covers an earlier one that is still being looked up.
        let earlier = self.acks.resolving.iter().find(|(_, (other, _))| *other == room).map(|(ask, _)| *ask);
        if let Some(earlier) = earlier {
            self.acks.resolving.remove(&earlier);
            self.edge.asks.forget(earlier);
        }
        let ask = Ask::History { before: Some(seq + 1), after: None, limit: 1 };
        let number = self.edge.asks.open(&self.outbox, &room, ask, Some(*self.edge.settings.edge.join_timeout));
        metrics::counter!(names::ASKS, "kind" => "ack").increment(1);
        self.acks.resolving.insert(number, (room.clone(), seq));
        self.edge.desks.order(&room, Order::Ask(number)).await;
    }

    /// The id of an acknowledged message was looked up.
    pub(super) fn ack_resolved(&mut self, number: u64, answer: Option<&Arc<Answer>>) {
        let Some((room, seq)) = self.acks.resolving.remove(&number) else { return };
        let Some(Answer::History { entries, .. }) = answer.map(Arc::as_ref) else { return };
        let found = entries.iter().find(|entry| entry.seq == seq && entry.kind == EntryKind::Message);
        if let Some(entry) = found {
            self.edge.cursors.acked(&self.claims.user, &self.device, &room, entry.cursor());
        }
    }
}
