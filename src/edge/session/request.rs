//! Frames of the client: what each asks for, and who in this folder does it.

use tokio_tungstenite::tungstenite::Message;

use super::super::desk::Order;
use super::super::pulse::Holder;
use super::Session;
use super::end::Ending;
use super::hello::payload_of;
use crate::auth::Access;
use crate::model::{Ask, Room};
use crate::protocol::{
    ClientFrame, ErrorCode, HistoryRange, LeftReason, Refusal, RequestRef, ServerFrame, close, decode,
};
use crate::telemetry::names;

/// Histories that one connection may have asked for at the same time.
const HISTORIES_MAX: usize = 16;

impl Session {
    /// A message of the WebSocket.
    pub(super) async fn received(&mut self, message: Message) -> Result<(), Ending> {
        self.timing.heard();
        match &message {
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(()),
            Message::Close(_) => return Err(Ending::gone()),
            Message::Text(_) | Message::Binary(_) => {}
        }
        if self.edge.pulse.freezes() != self.freezes {
            Box::pin(self.still_ours()).await?;
        }
        let payload = payload_of(self.subprotocol, &message).ok_or_else(Ending::wrong_frame_kind)?;
        match decode(self.subprotocol, payload, self.edge.settings.limits.body_bytes) {
            Ok(request) => {
                self.edge.metrics.received(request.frame.type_name());
                self.requested(request.request_ref, request.frame).await
            }
            Err(refusal) => {
                self.refuse(&refusal);
                self.edge.metrics.refused(refusal.code);
                if refusal.code == ErrorCode::BadFrame { self.count_bad_frame() } else { Ok(()) }
            }
        }
    }

    /// After a freeze the device may have gone on elsewhere: then what it had sent to us is old.
    async fn still_ours(&mut self) -> Result<(), Ending> {
        let freezes = self.edge.pulse.freezes();
        match self.edge.holder(&self.claims.user, &self.device, self.outbox.connection).await {
            Ok(Holder::Us) => {
                self.freezes = freezes;
                Ok(())
            }
            Ok(Holder::Another) => Err(Ending::replaced()),
            // Whoever is still there comes back, and sends again what was not answered.
            Ok(Holder::Nobody) | Err(_) => Err(Ending::restart(self.edge.reconnect_after())),
        }
    }

    fn count_bad_frame(&mut self) -> Result<(), Ending> {
        self.bad_frames += 1;
        if self.bad_frames > close::BAD_FRAMES_MAX { Err(Ending::protocol_errors()) } else { Ok(()) }
    }

    async fn requested(&mut self, request_ref: Option<RequestRef>, frame: ClientFrame<'_>) -> Result<(), Ending> {
        match frame {
            ClientFrame::Send(send) => self.send(request_ref, &send)?,
            ClientFrame::Ack { room, seq } => self.ack(request_ref, &room, seq, false).await,
            ClientFrame::Read { room, seq } => self.ack(request_ref, &room, seq, true).await,
            ClientFrame::Signal { room, body } => self.signal(request_ref, &room, &body)?,
            ClientFrame::Join { room, since } => Box::pin(self.join(request_ref, &room, since)).await,
            ClientFrame::Leave { room } => Box::pin(self.leave(request_ref, &room)).await,
            ClientFrame::History { room, range, limit } => {
                Box::pin(self.history(request_ref, &room, range, limit)).await?;
            }
            ClientFrame::Refresh { token } => Box::pin(self.refresh(request_ref.as_ref(), &token)).await?,
            ClientFrame::Ping => self.say(&ServerFrame::Pong { request_ref: request_ref.as_ref() }),
            ClientFrame::Presence { room } => {
                let refusal = Refusal::new(ErrorCode::UnknownType, "presence is not served by this version");
                self.refuse(&refusal.in_room(&room).to(request_ref));
            }
            ClientFrame::Hello { .. } => {
                let refusal = Refusal::new(ErrorCode::BadFrame, "hello was said already");
                self.refuse(&refusal.to(request_ref));
                return self.count_bad_frame();
            }
        }
        Ok(())
    }

    async fn history(
        &mut self,
        request_ref: Option<RequestRef>,
        room: &str,
        range: HistoryRange,
        limit: u32,
    ) -> Result<(), Ending> {
        let refusal = match Room::new(room) {
            Err(_) => Refusal::new(ErrorCode::BadRoom, "not a name of a room"),
            Ok(room) if !self.claims.rights.allows(&room, Access::Read) => {
                Refusal::new(ErrorCode::Forbidden, "the token does not grant reading this room")
            }
            Ok(_) if self.histories.len() >= HISTORIES_MAX => {
                Refusal::new(ErrorCode::RateLimited, "too many histories are asked for at once").retry_after_ms(100)
            }
            Ok(room) => {
                self.ask_history(request_ref, room, range, limit).await;
                return Ok(());
            }
        };
        let limited = refusal.code == ErrorCode::RateLimited;
        self.refuse(&refusal.in_room(room).to(request_ref));
        if limited { self.rate_limited() } else { Ok(()) }
    }

    async fn ask_history(&mut self, request_ref: Option<RequestRef>, room: Room, range: HistoryRange, limit: u32) {
        let (before, after) = match range {
            HistoryRange::Newest => (None, None),
            HistoryRange::Before(seq) => (Some(seq), None),
            HistoryRange::After(seq) => (None, Some(seq)),
        };
        let patience = Some(*self.edge.settings.edge.join_timeout);
        let ask = Ask::History { before, after, limit };
        let number = self.edge.asks.open(&self.outbox, &room, ask, patience);
        metrics::counter!(names::ASKS, "kind" => "history").increment(1);
        self.histories.insert(number, (request_ref, room.clone()));
        self.edge.desks.order(&room, Order::Ask(number)).await;
    }

    /// A new token for the same user: what it doesn't grant any more is left.
    async fn refresh(&mut self, request_ref: Option<&RequestRef>, token: &str) -> Result<(), Ending> {
        let claims = self.edge.verifier.verify(token).map_err(|error| Ending::bad_token(error.to_string()))?;
        if claims.user != self.claims.user {
            return Err(Ending::bad_token("the token is of another user".into()));
        }
        self.claims = claims;
        self.welcome(request_ref);
        let rooms: Vec<Room> = self.rooms.keys().cloned().collect();
        for room in rooms {
            if !self.claims.rights.allows(&room, Access::Read) {
                self.put_out(&room, LeftReason::Forbidden).await;
            }
        }
        Ok(())
    }
}
