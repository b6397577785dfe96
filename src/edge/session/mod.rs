//! One connection, from `hello` to its end: a task of its own, which owns the socket.
//!
//! What others want of it waits in its [`Outbox`]; what it wants of Redis goes to the desks and the
//! publisher. Where a task waits for Redis all the same (a late join's cursor, a desk whose queue is
//! full), it waits alone: whatever blocks a client blocks nobody else.
//!
//! **Invariant:** between `joined` (or `reset`) and the end, a room's entries go out in order, the
//! seqs of its messages up by one each.

mod acks;
mod answer;
mod deliver;
mod end;
mod hello;
mod join;
mod request;
mod send;
mod subscription;
mod take_over;
mod timing;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::sync::CancellationToken;

use self::acks::Acks;
use self::end::Ending;
use self::send::Sends;
use self::subscription::Subscription;
use self::timing::Timing;
use super::Edge;
use super::limits::Rate;
use super::measure::Behind;
use super::outbox::{Outbox, SubscriptionId};
use super::wire::Wire;
use crate::auth::Claims;
use crate::model::{Cursor, DeviceId, Room};
use crate::protocol::{Refusal, RequestRef, ServerFrame, Subprotocol, frame};
use crate::stream::Generation;
use crate::telemetry::names;

pub(super) use self::hello::serve;

/// Below this many bytes waiting for the socket, more is taken from the outbox: enough for one full
/// system call, little enough that the outbox's limit is what counts.
const QUEUED_LOW: usize = 64 << 10;
/// Above this many bytes waiting for the socket, nothing more is read from the client: it has to
/// take its answers first.
const QUEUED_HIGH: usize = 512 << 10;
/// Frames of a client that are handled before its outbox is looked at again.
const FRAMES_PER_TURN: usize = 64;

/// A connection that has said hello.
struct Session {
    edge: Arc<Edge>,
    ws: WebSocketStream<Wire>,
    /// The WebSocket library has no whole frame left: it is not asked before the socket has more.
    read_out: bool,
    subprotocol: Subprotocol,
    outbox: Arc<Outbox>,
    /// Name of the connection, unique over all edges.
    name: String,
    device: DeviceId,
    claims: Claims,
    rate: Rate,
    timing: Timing,
    rooms: HashMap<Room, SubscriptionId>,
    subscriptions: HashMap<SubscriptionId, Subscription>,
    next_subscription: u32,
    sends: Sends,
    acks: Acks,
    histories: HashMap<u64, (Option<RequestRef>, Room)>,
    saved: Option<Box<Saved>>,
    /// Subscriptions that are catching up.
    behind: Behind,
    to_put_out: Vec<Room>,
    to_end_stay: Vec<Room>,
    to_count_again: bool,
    bad_frames: u32,
    /// Freezes of the process after which the device was known to be ours.
    freezes: u64,
    /// Later than that of every earlier connection of the device.
    generation: Generation,
    /// The newest generation that a send of ours was too late for.
    superseded: Generation,
    /// How long Redis keeps what it knows of the device when it is gone.
    device_ttl: Duration,
    ended: CancellationToken,
}

/// What Redis had saved of the device and its user at `hello`.
#[derive(Debug)]
struct Saved {
    cursors: HashMap<Room, Cursor>,
    read: HashMap<Room, u64>,
    loaded: Instant,
}

/// Why the task woke up.
enum Wake {
    /// The client said something.
    Message(Message),
    /// The client's stream ended, well or not.
    Closed(Option<WsError>),
    /// There is something in the outbox, or room on the wire.
    Outbox,
    /// A moment was waited for.
    Moment,
}

impl Session {
    /// Serves the connection until it ends; then says why, and leaves everything as it has to be.
    async fn run(mut self: Box<Self>) {
        let connections = metrics::gauge!(names::CONNECTIONS, "protocol" => self.subprotocol.name());
        connections.increment(1.0);
        let ending = self.serve_until_end().await;
        Box::pin(self.end(ending)).await;
        connections.decrement(1.0);
    }

    async fn serve_until_end(&mut self) -> Ending {
        loop {
            if let Err(ending) = self.turn().await {
                return ending;
            }
        }
    }

    /// Takes what waits in the outbox, then waits for what comes next and handles it. What is rare and waits is boxed
    /// where it is called: its memory would else be a part of every idle connection.
    async fn turn(&mut self) -> Result<(), Ending> {
        self.take_notes()?;
        if self.superseded != Generation::default() {
            return Err(Box::pin(self.superseded()).await);
        }
        self.do_changes().await;
        if !self.behind.is_none() {
            Box::pin(self.ask_due_pages()).await;
        }
        let mut frames = 0;
        let mut wake = self.wait().await;
        loop {
            match wake {
                Wake::Message(message) => self.received(message).await?,
                Wake::Closed(error) => return Err(Ending::of_stream(error)),
                Wake::Outbox | Wake::Moment => break,
            }
            frames += 1;
            if frames == FRAMES_PER_TURN || self.wire().queued() >= QUEUED_HIGH {
                break;
            }
            // What has arrived already shares one turn, so that its answers share one write.
            match poll_fn(|cx| Poll::Ready(self.poll_message(cx))).await {
                Poll::Ready(next) => wake = next,
                Poll::Pending => break,
            }
        }
        // Every time, not only when the timer fires: a client that always has one more frame ready would put
        // the timer off, and the end of its token with it.
        self.check_time()
    }

    /// Waits for the first of all that can happen. Dropping it loses nothing.
    async fn wait(&mut self) -> Wake {
        self.timing.arm(self.ws.get_ref().queued() > 0, self.next_due());
        poll_fn(|cx| {
            let before = self.wire().queued();
            if before > 0 {
                if let Poll::Ready(Err(error)) = self.ws.get_mut().poll_drain(cx) {
                    return Poll::Ready(Wake::Closed(Some(error.into())));
                }
                // The wire has room again: notes and pages that waited for it can go.
                if before >= QUEUED_LOW && self.wire().queued() < QUEUED_LOW {
                    return Poll::Ready(Wake::Outbox);
                }
            }
            if self.wire().queued() < QUEUED_LOW && self.outbox.poll_ready(cx).is_ready() {
                return Poll::Ready(Wake::Outbox);
            }
            if self.wire().queued() < QUEUED_HIGH
                && let Poll::Ready(wake) = self.poll_message(cx)
            {
                return Poll::Ready(wake);
            }
            self.timing.poll(cx).map(|()| Wake::Moment)
        })
        .await
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        // Asked for nothing, the WebSocket library still clears the buffer that it would read into.
        if self.read_out && self.wire().poll_readable(cx).is_pending() {
            return Poll::Pending;
        }
        let next = Pin::new(&mut self.ws).poll_next_unpin(cx);
        self.read_out = next.is_pending();
        next.map(|next| match next {
            Some(Ok(message)) => Wake::Message(message),
            Some(Err(error)) => Wake::Closed(Some(error)),
            None => Wake::Closed(None),
        })
    }

    fn wire(&self) -> &Wire {
        self.ws.get_ref()
    }

    /// Puts a frame on the wire.
    fn say(&mut self, what: &ServerFrame<'_>) {
        match frame(self.subprotocol, what) {
            Ok(encoded) => self.ws.get_mut().enqueue(encoded),
            Err(error) => tracing::error!(connection = %self.name, %error, "could not encode a frame"),
        }
    }

    fn refuse(&mut self, refusal: &Refusal) {
        self.say(&refusal.frame());
    }

    fn subscription(&mut self, room: &str) -> Option<&mut Subscription> {
        let id = self.rooms.get(room)?;
        self.subscriptions.get_mut(id)
    }
}
