//! Sending: checks, then over to the publisher; the outcome comes back through the outbox.

use std::collections::HashMap;
use std::time::Instant;

use super::super::pulse::Holder;
use super::Session;
use super::end::Ending;
use super::join::RETRY_MS;
use crate::auth::Access;
use crate::fault::{self, Fault};
use crate::model::{Cursor, EntryId, FileRef, Item, Message, Room};
use crate::protocol::{ErrorCode, Refusal, RequestRef, SendFrame, ServerFrame};
use crate::publish::{Answer, Job, Outcome, mark};
use crate::stream::Publish;
use crate::telemetry::names;

/// Sends that await their answer.
#[derive(Debug, Default)]
pub(super) struct Sends {
    waiting: HashMap<u64, Waiting>,
    next_ticket: u64,
}

#[derive(Debug)]
struct Waiting {
    request_ref: Option<RequestRef>,
    room: Room,
    cid: Box<str>,
    began: Instant,
}

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Session {
    pub(super) fn send(&mut self, request_ref: Option<RequestRef>, send: &SendFrame<'_>) -> Result<(), Ending> {
        let room = match self.check_send(send) {
            Ok(room) => room,
            Err(refusal) => {
                let limited = refusal.code == ErrorCode::RateLimited;
                self.edge.metrics.refused(refusal.code);
                self.refuse(&refusal.in_room(&send.room).about(&send.cid).to(request_ref));
                return if limited { self.rate_limited() } else { Ok(()) };
            }
        };
        let message = Message {
            user: &self.claims.user,
            device: &self.device,
            cid: &send.cid,
            kind: &send.kind,
            body: &send.body,
            sender_type: self.claims.sender_type,
            file: send.file.as_ref().map(|file| FileRef { url: &file.url, name: &file.name }),
        };
        let publish = Publish {
            room: room.clone(),
            user: self.claims.user.clone(),
            device: self.device.clone(),
            generation: self.generation,
            mark: mark(&room, &message),
            envelope: Item::Message(message).encode().into(),
        };
        let ticket = self.sends.next_ticket;
        self.sends.next_ticket += 1;
        let waiting = Waiting { request_ref, room, cid: (&*send.cid).into(), began: Instant::now() };
        self.sends.waiting.insert(ticket, waiting);
        if fault::active(Fault::AckBeforeXadd) {
            let place = Cursor::new(EntryId::new(super::super::now_ms(), 0), 0);
            self.published(ticket, Outcome::Accepted { place, duplicate: false });
        }
        let outbox = self.outbox.clone();
        if !self.edge.publisher.offer(Job { message: publish, answer: Answer::Ticket(outbox, ticket) }) {
            self.published(ticket, Outcome::Unavailable);
        }
        Ok(())
    }

    fn check_send(&mut self, send: &SendFrame<'_>) -> Result<Room, Refusal> {
        let room = self.check_write(&send.room)?;
        if self.sends.waiting.len() >= self.edge.settings.limits.unacked_sends {
            let message = "as many sends await their answer as limits.unacked_sends allows";
            return Err(Refusal::new(ErrorCode::TooManyUnacked, message));
        }
        Ok(room)
    }

    /// Whether this connection may write to a room, now.
    fn check_write(&mut self, room: &str) -> Result<Room, Refusal> {
        let room = Room::new(room).map_err(|_| Refusal::new(ErrorCode::BadRoom, "not a name of a room"))?;
        if !self.claims.rights.allows(&room, Access::Write) {
            return Err(Refusal::new(ErrorCode::Forbidden, "the token does not grant writing to this room"));
        }
        let too_fast = "more sends than limits.sends_per_second allows";
        let limited = |wait_ms| Refusal::new(ErrorCode::RateLimited, too_fast).retry_after_ms(wait_ms);
        self.rate.check().map_err(limited)?;
        Ok(room)
    }

    /// The outcome of a send: its answer.
    pub(super) fn published(&mut self, ticket: u64, outcome: Outcome) {
        let Some(waiting) = self.sends.waiting.remove(&ticket) else { return };
        let code = match outcome {
            Outcome::Accepted { place, duplicate } => {
                self.edge.metrics.accepted(duplicate, waiting.began.elapsed());
                return self.say(&ServerFrame::Sent {
                    request_ref: waiting.request_ref.as_ref(),
                    room: &waiting.room,
                    cid: &waiting.cid,
                    id: place.id,
                    seq: place.seq,
                    duplicate,
                });
            }
            // No answer: the connection ends, and whoever is still there sends it again on the next.
            Outcome::Superseded(newest) => {
                metrics::counter!(names::SENDS_SUPERSEDED).increment(1);
                self.superseded = self.superseded.max(newest);
                return;
            }
            Outcome::CidConflict => ErrorCode::CidConflict,
            Outcome::RoomClosed => ErrorCode::RoomClosed,
            Outcome::Unavailable => ErrorCode::Unavailable,
        };
        let message = match outcome {
            Outcome::CidConflict => "this cid was used for another message",
            Outcome::RoomClosed => "the room is closed",
            _ => "the log can't be written now; send it again with the same cid",
        };
        let mut refusal = Refusal::new(code, message).in_room(&waiting.room).about(&waiting.cid);
        if code == ErrorCode::Unavailable {
            refusal = refusal.retry_after_ms(RETRY_MS);
        }
        self.edge.metrics.refused(code);
        self.refuse(&refusal.to(waiting.request_ref));
    }

    /// How the connection ends whose send was superseded. Most often a newer connection has its device.
    /// If none has, it came and went, or the clock by which connections are ordered stands before what it was:
    /// then the next one is put after all that has stored something.
    pub(super) async fn superseded(&mut self) -> Ending {
        let (edge, user, device) = (self.edge.clone(), self.claims.user.clone(), self.device.clone());
        let (connection, newest, ttl) = (self.outbox.connection, self.superseded, self.device_ttl);
        let holder = async {
            let holder = edge.holder(&user, &device, connection).await?;
            if holder != Holder::Another {
                edge.redis.raise_generation(&user, &device, newest, ttl).await?;
            }
            Ok::<_, crate::Error>(holder)
        };
        match holder.await {
            Ok(Holder::Another) => Ending::replaced(),
            // Without an answer the next connection may end like this one.
            Ok(Holder::Us | Holder::Nobody) | Err(_) => Ending::restart(edge.reconnect_after()),
        }
    }

    /// Ephemeral: to whoever is there, stored nowhere.
    pub(super) fn signal(&mut self, request_ref: Option<RequestRef>, room: &str, body: &str) -> Result<(), Ending> {
        match self.check_write(room) {
            Ok(room) => {
                self.edge.signals.send(&room, &self.claims.user, self.outbox.connection, body);
                Ok(())
            }
            Err(refusal) => {
                let limited = refusal.code == ErrorCode::RateLimited;
                self.refuse(&refusal.in_room(room).to(request_ref));
                if limited { self.rate_limited() } else { Ok(()) }
            }
        }
    }

    pub(super) fn rate_limited(&mut self) -> Result<(), Ending> {
        if self.rate.refused() { Err(Ending::too_many_rate_limited()) } else { Ok(()) }
    }
}
