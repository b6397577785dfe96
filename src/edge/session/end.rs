//! How a connection ends: what the client hears, and what is left in order behind it.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tracing::{debug, info};

use super::super::desk::{Order, step};
use super::Session;
use crate::protocol::{ErrorCode, Refusal, ServerFrame, close};
use crate::stream::Step;
use crate::telemetry::names;

/// How long a client may take to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Close code of RFC 6455, 7.4.1, for a client that breaks the WebSocket protocol itself.
const PROTOCOL_ERROR: u16 = 1002;

/// The end of a connection: for the client, and a word for metrics.
#[derive(Debug)]
pub(super) struct Ending {
    /// Close code; nothing: the client has closed, or is gone.
    code: Option<u16>,
    reason: &'static str,
    error: Option<Box<Refusal>>,
    bye: Option<Bye>,
}

#[derive(Debug)]
struct Bye {
    reconnect: bool,
    after: Option<Duration>,
}

impl Ending {
    const fn with_code(code: u16, reason: &'static str) -> Self {
        Self { code: Some(code), reason, error: None, bye: None }
    }

    /// The client's stream ended.
    pub(super) fn of_stream(error: Option<WsError>) -> Self {
        match error {
            Some(WsError::Capacity(CapacityError::MessageTooLong { .. })) => {
                let error = Refusal::new(ErrorCode::TooLarge, "the message is over limits.message_bytes");
                Self { error: Some(Box::new(error)), ..Self::with_code(close::TOO_BIG, "too_big") }
            }
            Some(WsError::Utf8(_)) => Self::with_code(close::BAD_UTF8, "bad_utf8"),
            Some(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake)) | None => Self::gone(),
            Some(WsError::Protocol(_) | WsError::Capacity(_)) => Self::with_code(PROTOCOL_ERROR, "websocket_error"),
            Some(_) => Self::gone(),
        }
    }

    pub(super) const fn gone() -> Self {
        Self { code: None, reason: "closed", error: None, bye: None }
    }

    pub(super) const fn wrong_frame_kind() -> Self {
        Self::with_code(close::WRONG_FRAME_KIND, "wrong_frame_kind")
    }

    pub(super) const fn no_hello() -> Self {
        Self::with_code(close::NO_HELLO, "no_hello")
    }

    pub(super) const fn no_heartbeat() -> Self {
        Self::with_code(close::NO_HEARTBEAT, "no_heartbeat")
    }

    pub(super) const fn stalled() -> Self {
        Self::with_code(close::STALLED, "stalled")
    }

    pub(super) const fn too_many_rate_limited() -> Self {
        Self::with_code(close::TOO_MANY_RATE_LIMITED, "rate_limited")
    }

    pub(super) const fn protocol_errors() -> Self {
        Self::with_code(close::PROTOCOL_ERRORS, "protocol_errors")
    }

    pub(super) const fn disconnected() -> Self {
        Self::with_code(close::DISCONNECTED, "disconnected")
    }

    pub(super) fn replaced() -> Self {
        Self { bye: Some(Bye { reconnect: false, after: None }), ..Self::with_code(close::REPLACED, "replaced") }
    }

    pub(super) fn restart(after: Duration) -> Self {
        Self { bye: Some(Bye { reconnect: true, after: Some(after) }), ..Self::with_code(close::RESTART, "restart") }
    }

    pub(super) fn bad_token(message: String) -> Self {
        let error = Refusal::new(ErrorCode::Unauthorized, message);
        Self { error: Some(Box::new(error)), ..Self::with_code(close::BAD_TOKEN, "bad_token") }
    }

    pub(super) fn token_expired() -> Self {
        Self::bad_token("the token has expired".into())
    }

    /// `refusal`, and come back after a while.
    pub(super) fn refused(refusal: Refusal, code: u16, reason: &'static str) -> Self {
        Self { error: Some(Box::new(refusal)), ..Self::with_code(code, reason) }
    }

    /// What the client hears before the close.
    pub(super) fn frames(&self) -> Vec<ServerFrame<'_>> {
        let error = self.error.as_deref().map(Refusal::frame);
        let bye = self.bye.as_ref().map(|bye| ServerFrame::Bye {
            reason: self.reason,
            reconnect: bye.reconnect,
            reconnect_after_ms: bye.after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        });
        error.into_iter().chain(bye).collect()
    }

    pub(super) fn close_frame(&self) -> Option<CloseFrame> {
        self.code.map(|code| CloseFrame { code: code.into(), reason: self.reason.into() })
    }

    pub(super) fn reason(&self) -> &'static str {
        self.reason
    }
}

impl Session {
    /// Leaves everything in order, then tells the client: when it hears the close, its cursors are
    /// written and it may come back at once.
    pub(super) async fn end(mut self, ending: Ending) {
        info!(connection = %self.name, reason = ending.reason(), "connection ended");
        metrics::counter!(names::CONNECTIONS_CLOSED, "reason" => ending.reason()).increment(1);
        if ending.code == Some(close::RESTART) {
            self.finish_sends().await;
        }
        self.outbox.close();
        self.leave_everything().await;
        for frame in ending.frames() {
            self.say(&frame);
        }
        let closing = async {
            let _ = self.ws.close(ending.close_frame()).await;
            // The handshake is over when the client has closed as well.
            while let Some(Ok(_)) = self.ws.next().await {}
            let _ = self.ws.get_mut().hear_out().await;
        };
        if tokio::time::timeout(CLOSE_TIMEOUT, closing).await.is_err() {
            debug!(connection = %self.name, "the client did not answer the close");
        }
    }

    async fn leave_everything(&mut self) {
        let user = self.claims.user.clone();
        for subscription in self.subscriptions.values() {
            self.edge.registry.unsubscribe(&subscription.room, self.outbox.connection);
            self.edge.tail.exit(subscription.partition);
            if let Some(ask) = subscription.ask() {
                self.edge.asks.forget(ask);
            }
        }
        for ask in self.acks.asks().chain(self.histories.keys().copied()) {
            self.edge.asks.forget(ask);
        }
        metrics::gauge!(names::SUBSCRIPTIONS).decrement(self.subscriptions.len() as f64);
        for room in self.rooms.keys().filter(|room| !room.is_system()) {
            let ended = step(Step::End, room, &user, &self.name);
            self.edge.desks.order(room, Order::Count(ended)).await;
        }
        if let Err(error) = self.edge.cursors.write_device(&user, &self.device).await {
            debug!(connection = %self.name, %error, "cursors are written with the next interval");
        }
        let holder = self.edge.holder_of(self.outbox.connection);
        if let Err(error) = self.edge.redis.release_device(&user, &self.device, &holder, self.device_ttl).await {
            debug!(connection = %self.name, %error, "could not release the device");
        }
        self.edge.registry.exit(&user, self.outbox.connection);
        self.ended.cancel();
    }

    /// Waits for the answers of sends under way, so that the client hears them before the goodbye.
    async fn finish_sends(&mut self) {
        let wait = *self.edge.settings.edge.publish_retry + Duration::from_secs(1);
        let finish = async {
            while !self.sends.is_empty() {
                std::future::poll_fn(|cx| self.outbox.poll_ready(cx)).await;
                while let Some(note) = self.outbox.pop() {
                    if let super::super::outbox::Note::Published(ticket, outcome) = note {
                        self.published(ticket, outcome);
                    }
                }
                // What was dropped for want of room is replayed on the next connection.
                let _ = self.outbox.take_dropped();
            }
        };
        let _ = tokio::time::timeout(wait, finish).await;
    }
}

/// Says goodbye on a connection that has no session yet.
pub(super) async fn close_early(
    ws: &mut tokio_tungstenite::WebSocketStream<super::super::wire::Wire>,
    subprotocol: crate::protocol::Subprotocol,
    ending: &Ending,
) {
    metrics::counter!(names::CONNECTIONS_CLOSED, "reason" => ending.reason()).increment(1);
    for frame in ending.frames() {
        ws.get_mut().enqueue(crate::protocol::frame(subprotocol, &frame).unwrap_or_default());
    }
    let closing = async {
        let _ = ws.send(Message::Close(ending.close_frame())).await;
        while let Some(Ok(_)) = ws.next().await {}
        let _ = ws.get_mut().hear_out().await;
    };
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, closing).await;
}
