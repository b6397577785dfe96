//! From the upgrade to `welcome`: who is it, and may they come in?

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::super::control::Control;
use super::super::outbox::{Note, Outbox};
use super::super::registry::Connection;
use super::super::wire::Wire;
use super::super::{Edge, Greeting};
use super::acks::Acks;
use super::end::{Ending, close_early};
use super::send::Sends;
use super::take_over::{REPLACE_WAIT, take_over};
use super::timing::Timing;
use super::{Saved, Session};
use crate::auth::Claims;
use crate::error::Result;
use crate::model::{DeviceId, UserId};
use crate::protocol::{
    ClientFrame, ErrorCode, Limits, Refusal, RequestRef, ServerFrame, Subprotocol, Welcome, close, decode,
};
use crate::stream::Generation;
use crate::telemetry::names;

/// When a client is told to come back if Redis can't be asked now.
const UNAVAILABLE_RETRY_MS: u64 = 1_000;

/// How long the generation of a device is kept that has no name of its own: it hardly ever comes back, and clients that
/// give none may be many.
const MADE_UP_DEVICE_TTL: Duration = Duration::from_secs(3_600);

/// Answers to pings that may wait for a client before `hello`.
const EARLY_BYTES_MAX: usize = 16 << 10;

/// What the first frame said.
struct Hello {
    request_ref: Option<RequestRef>,
    claims: Claims,
    device: DeviceId,
    /// How long what is known of the device is kept when it is gone.
    device_ttl: Duration,
}

/// Serves an upgraded connection to its end.
pub(in super::super) async fn serve(edge: Arc<Edge>, ws: WebSocketStream<Wire>, greeting: Greeting) {
    // In memory of its own, which is given back: most connections idle, and idling needs none of it.
    if let Some(session) = Box::pin(let_in(edge, ws, greeting)).await {
        session.run().await;
    }
}

/// Hears `hello` and says `welcome`, or why not.
async fn let_in(edge: Arc<Edge>, mut ws: WebSocketStream<Wire>, greeting: Greeting) -> Option<Box<Session>> {
    let subprotocol = greeting.subprotocol;
    let first = tokio::select! {
        () = edge.shutdown.requested() => Ok(Err(Ending::restart(edge.reconnect_after()))),
        first = tokio::time::timeout(*edge.settings.edge.hello_timeout, first_message(&mut ws)) => first,
    };
    let opened = match first {
        Ok(Ok(message)) => match hello(&edge, subprotocol, greeting.claims, &message) {
            Ok(hello) => open(edge, subprotocol, hello).await,
            Err(ending) => Err(ending),
        },
        Ok(Err(ending)) => Err(ending),
        Err(_) => Err(Ending::no_hello()),
    };
    match opened {
        Ok(opened) => Some(greet(opened, ws).await),
        Err(ending) => {
            debug!(reason = ending.reason(), "connection ended before its welcome");
            close_early(&mut ws, subprotocol, &ending).await;
            None
        }
    }
}

async fn first_message(ws: &mut WebSocketStream<Wire>) -> Result<Message, Ending> {
    loop {
        match ws.next().await {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => return Ok(message),
            Some(Ok(Message::Close(_))) | None => return Err(Ending::gone()),
            // A ping was answered. Nobody has so much to ask before it has said who it is, and doesn't read.
            Some(Ok(_)) if ws.get_ref().queued() > EARLY_BYTES_MAX => return Err(Ending::no_hello()),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(Ending::of_stream(Some(error))),
        }
    }
}

fn hello(edge: &Edge, subprotocol: Subprotocol, early: Option<Claims>, message: &Message) -> Result<Hello, Ending> {
    let payload = payload_of(subprotocol, message).ok_or_else(Ending::wrong_frame_kind)?;
    let refused = |refusal| Ending::refused(refusal, close::NO_HELLO, "no_hello");
    let request = decode(subprotocol, payload, edge.settings.limits.body_bytes).map_err(refused)?;
    let request_ref = request.request_ref;
    let ClientFrame::Hello { token, device, client } = request.frame else {
        let refusal = Refusal::new(ErrorCode::BadFrame, "the first frame must be hello").to(request_ref);
        return Err(refused(refusal));
    };
    let claims = match (token, early) {
        (Some(token), _) => edge.verifier.verify(&token).map_err(|error| Ending::bad_token(error.to_string()))?,
        (None, Some(claims)) => claims,
        (None, None) => return Err(Ending::bad_token("hello has no token".into())),
    };
    let device_ttl = if device.is_some() { *edge.settings.edge.cursor_ttl } else { MADE_UP_DEVICE_TTL };
    let made_up = || uuid::Uuid::now_v7().to_string();
    let device = device.map_or_else(made_up, |device| device.into_owned());
    let device = DeviceId::new(&device)
        .map_err(|error| refused(Refusal::new(ErrorCode::BadFrame, error.to_string()).to(request_ref.clone())))?;
    debug!(client = client.as_deref().unwrap_or_default().escape_debug().to_string(), "hello");
    Ok(Hello { request_ref, claims, device, device_ttl })
}

/// The payload of a message of the right kind for the subprotocol.
pub(super) fn payload_of(subprotocol: Subprotocol, message: &Message) -> Option<&[u8]> {
    match (subprotocol, message) {
        (Subprotocol::Json, Message::Text(text)) => Some(text.as_str().as_bytes()),
        (Subprotocol::MsgPack, Message::Binary(bytes)) => Some(bytes),
        _ => None,
    }
}

/// What a session is made of once its connection has been let in.
struct Opened {
    edge: Arc<Edge>,
    subprotocol: Subprotocol,
    outbox: Arc<Outbox>,
    hello: Hello,
    saved: Saved,
    ended: CancellationToken,
    freezes: u64,
    generation: Generation,
}

async fn open(edge: Arc<Edge>, subprotocol: Subprotocol, hello: Hello) -> Result<Opened, Ending> {
    // Before the device is taken over: a freeze after that is another.
    let freezes = edge.pulse.freezes();
    let user = hello.claims.user.clone();
    let outbox = Arc::new(Outbox::new(edge.next_connection(), edge.settings.edge.outbox_bytes));
    let ended = CancellationToken::new();
    let connection = Connection { device: hello.device.clone(), outbox: outbox.clone(), ended: ended.clone() };
    let most = usize::try_from(edge.settings.limits.connections_per_user).unwrap_or(usize::MAX);
    let Ok(older) = edge.registry.enter(&user, connection, most) else {
        let refusal = Refusal::new(ErrorCode::RateLimited, "too many connections of this user")
            .to(hello.request_ref)
            .retry_after_ms(30_000);
        return Err(Ending::refused(refusal, close::TOO_MANY_RATE_LIMITED, "connections_per_user"));
    };
    // Whoever comes in while everybody is sent away would not hear of it otherwise.
    if edge.shutdown.is_requested() {
        outbox.push(Note::Control(Control::Drain(edge.reconnect_after())));
    }
    if let Some(older) = older {
        older.outbox.push(Note::Control(Control::Replaced));
        let _ = tokio::time::timeout(REPLACE_WAIT, older.ended.cancelled()).await;
    }
    match load(&edge, &user, &hello.device, outbox.connection).await {
        Ok((saved, generation)) => Ok(Opened { edge, subprotocol, outbox, hello, saved, ended, freezes, generation }),
        Err(error) => {
            debug!(%error, "could not load a device's cursors");
            edge.registry.exit(&user, outbox.connection);
            ended.cancel();
            let refusal = Refusal::new(ErrorCode::Unavailable, "the cursors can't be read now")
                .to(hello.request_ref)
                .retry_after_ms(UNAVAILABLE_RETRY_MS);
            Err(Ending::refused(refusal, close::RESTART, "unavailable"))
        }
    }
}

/// Takes the device over from whichever edge had it, then reads what is saved of it.
async fn load(edge: &Edge, user: &UserId, device: &DeviceId, connection: u64) -> Result<(Saved, Generation)> {
    let ttl = *edge.settings.edge.cursor_ttl;
    let (before, generation) = edge.redis.hold_device(user, device, &edge.holder_of(connection), ttl).await?;
    if let Some(older) = before {
        take_over(edge, user, device, older).await?;
    }
    let (cursors, read) = futures_util::try_join!(edge.redis.cursors(user, device), edge.redis.read_markers(user))?;
    let mut cursors: HashMap<_, _> = cursors.into_iter().collect();
    // What this edge has not written yet is newer.
    for (room, cursor) in &mut cursors {
        if let Some(unwritten) = edge.cursors.unwritten(user, device, room) {
            *cursor = unwritten;
        }
    }
    Ok((Saved { cursors, read: read.into_iter().collect(), loaded: Instant::now() }, generation))
}

async fn greet(opened: Opened, ws: WebSocketStream<Wire>) -> Box<Session> {
    let Opened { edge, subprotocol, outbox, hello, saved, ended, freezes, generation } = opened;
    let settings = &edge.settings;
    let mut session = Box::new(Session {
        name: format!("{}-{}", edge.id, outbox.connection),
        rate: edge.limits.rate(),
        timing: Timing::new(*settings.edge.heartbeat, *settings.edge.stall_timeout),
        rooms: HashMap::new(),
        subscriptions: HashMap::new(),
        next_subscription: 0,
        sends: Sends::default(),
        acks: Acks::default(),
        histories: HashMap::new(),
        saved: Some(Box::new(saved)),
        behind: super::Behind::new(),
        to_put_out: Vec::new(),
        to_end_stay: Vec::new(),
        to_count_again: false,
        bad_frames: 0,
        freezes,
        generation,
        superseded: Generation::default(),
        device_ttl: hello.device_ttl,
        ws,
        read_out: false,
        subprotocol,
        outbox,
        device: hello.device,
        claims: hello.claims,
        ended,
        edge,
    });
    info!(connection = %session.name, "connection welcomed");
    metrics::counter!(names::CONNECTIONS_OPENED).increment(1);
    session.welcome(hello.request_ref.as_ref());
    session.join_own_rooms().await;
    session
}

impl Session {
    /// Says who the client is and what it may use.
    pub(super) fn welcome(&mut self, request_ref: Option<&RequestRef>) {
        let (edge, claims) = (self.edge.clone(), self.claims.clone());
        // The leeway that lets a token in keeps it in: clocks that differ don't agree on its end either.
        let leeway_ms = u64::try_from(edge.settings.auth.leeway.as_millis()).unwrap_or(u64::MAX);
        self.timing.expire_at(claims.expires_at_ms.saturating_add(leeway_ms));
        let limits = &edge.settings.limits;
        let (name, device) = (self.name.clone(), self.device.clone());
        self.say(&ServerFrame::Welcome(Welcome {
            request_ref,
            connection: &name,
            user: &claims.user,
            device: &device,
            server: concat!("millstream/", env!("CARGO_PKG_VERSION")),
            heartbeat_ms: u64::try_from(edge.settings.edge.heartbeat.as_millis()).unwrap_or(u64::MAX),
            expires_at: Some(claims.expires_at_ms),
            limits: Limits {
                message_bytes: limits.message_bytes as u64,
                body_bytes: limits.body_bytes as u64,
                rooms: limits.rooms as u64,
                unacked_sends: limits.unacked_sends as u64,
                sends_per_second: u64::from(limits.sends_per_second),
            },
        }));
    }
}
