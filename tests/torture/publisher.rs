//! Who writes: an outbox, a window of sends under way, and the same cid again until it is answered.
//!
//! **Invariant:** a send is never given up while it is retryable, and no more than [`WINDOW`] sends
//! follow one that isn't answered: the edges remember a device's last 64 cids.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use millstream::model::{Cid, DeviceId, EntryId, Room, UserId};
use millstream::verify::{Digest, Fact};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::recorder::Scribe;
use crate::run::Stage;
use crate::support::Format;
use crate::wire::{Came, Identity, PATIENCE, Wire};

/// Sends under way: less than a connection may have (64), and than the edges remember.
const WINDOW: usize = 16;
/// Accepted messages that are sent once more at times, as a client does that lost its notes.
const RECENT: usize = 12;
/// One message in so many is sent once more although it was answered, or while its answer is due.
const AGAIN_ONE_IN: u32 = 60;
/// Wait between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(150);
/// Size of the padding of a message: most are small.
const PADDING_MAX: usize = 10_000;

/// A message on its way.
#[derive(Clone)]
struct Item {
    room: Room,
    cid: Cid,
    body: Arc<Value>,
    digest: Digest,
    attempt: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// To be sent when its time has come.
    Due(Instant),
    /// No answer yet.
    Sent(Instant),
    Answered,
}

/// What a publisher is made of.
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) seed: u64,
    pub(crate) edges: Vec<String>,
    pub(crate) rooms: Vec<Room>,
    /// Mean time between two messages.
    pub(crate) pace: Duration,
}

/// A publisher.
pub(crate) struct Publisher {
    plan: Plan,
    scribe: Scribe,
    stage: Stage,
    rng: StdRng,
    identity: Identity,
    outbox: VecDeque<Item>,
    recent: VecDeque<Item>,
    made: u64,
    next: Instant,
    wire: Option<Wire>,
}

impl Publisher {
    /// A publisher that has sent nothing yet.
    pub(crate) fn new(plan: Plan, scribe: Scribe, stage: Stage) -> Self {
        let format = if plan.number.is_multiple_of(2) { Format::Json } else { Format::MsgPack };
        let user = format!("writer{}", plan.number);
        let identity = Identity { user, device: "pen".into(), format, slow: false };
        Self {
            rng: StdRng::seed_from_u64(plan.seed),
            plan,
            scribe,
            stage,
            identity,
            outbox: VecDeque::new(),
            recent: VecDeque::new(),
            made: 0,
            next: Instant::now(),
            wire: None,
        }
    }

    /// Writes until the traffic ends, and then until its outbox is empty.
    pub(crate) async fn run(mut self) {
        let user = UserId::new(&self.identity.user).expect("a user");
        self.scribe.note(Fact::Publisher { user, device: DeviceId::new("pen").expect("a device") });
        while !(self.stage.is_ending() && self.outbox.is_empty()) {
            if self.wire.is_none() && !self.connect().await {
                sleep(PAUSE).await;
                continue;
            }
            self.make();
            if !self.send_due().await || !self.listen().await {
                self.cut();
            }
        }
        if let Some(wire) = self.wire.take() {
            wire.close().await;
            self.scribe.note(Fact::Disconnected);
        }
    }

    async fn connect(&mut self) -> bool {
        let edge = self.rng.random_range(0..self.plan.edges.len());
        self.wire = Wire::connect(&self.plan.edges[edge], &self.identity).await;
        if self.wire.is_some() {
            self.scribe.note(Fact::Connected);
        }
        self.wire.is_some()
    }

    /// The connection is gone: what was under way is sent again on the next, in its order.
    fn cut(&mut self) {
        self.wire = None;
        let now = Instant::now();
        for item in &mut self.outbox {
            if matches!(item.state, State::Sent(_)) {
                self.scribe.note(Fact::Unanswered { room: item.room.clone(), cid: item.cid.clone() });
            }
            if item.state != State::Answered {
                item.state = State::Due(now);
            }
        }
        self.scribe.note(Fact::Disconnected);
    }

    /// Puts a new message into the outbox when it is time, and at times an old one.
    fn make(&mut self) {
        if self.stage.is_ending() || self.outbox.len() >= WINDOW || Instant::now() < self.next {
            return;
        }
        let mean = self.plan.pace.as_secs_f64();
        self.next = Instant::now() + Duration::from_secs_f64(self.rng.random_range(0.0..2.0 * mean));
        if self.rng.random_ratio(1, AGAIN_ONE_IN) && !self.recent.is_empty() {
            let at = self.rng.random_range(0..self.recent.len());
            if let Some(item) = self.recent.remove(at) {
                self.outbox.push_back(Item { state: State::Due(Instant::now()), ..item });
                return;
            }
        }
        // The first rooms are the busiest.
        let rooms = self.plan.rooms.len();
        let room = self.rng.random_range(0..rooms).min(self.rng.random_range(0..rooms));
        self.made += 1;
        let cid = format!("w{}-{}", self.plan.number, self.made);
        let padding = if self.rng.random_ratio(1, 5) { self.rng.random_range(0..PADDING_MAX) } else { 0 };
        let body = json!({ "n": self.made, "by": self.plan.number, "half": self.made as f64 / 2.0,
            "text": "grüße \u{1F600}", "padding": "x".repeat(padding) });
        self.outbox.push_back(Item {
            room: self.plan.rooms[room].clone(),
            cid: Cid::new(&cid).expect("a cid"),
            digest: Digest::of_value(&body),
            body: Arc::new(body),
            attempt: 0,
            state: State::Due(Instant::now()),
        });
    }

    /// Sends what is due; false if the connection is dead.
    async fn send_due(&mut self) -> bool {
        let now = Instant::now();
        let impatient = self.rng.random_ratio(1, AGAIN_ONE_IN * 10);
        for item in &mut self.outbox {
            match item.state {
                State::Due(at) if at <= now => {}
                // Once more on the same connection, while the first may still be answered.
                State::Sent(_) if impatient => {
                    self.scribe.note(Fact::Unanswered { room: item.room.clone(), cid: item.cid.clone() });
                }
                State::Sent(at) if now.duration_since(at) > PATIENCE => return false,
                _ => continue,
            }
            let Some(wire) = &mut self.wire else { return false };
            item.attempt += 1;
            item.state = State::Sent(now);
            let (room, cid) = (item.room.clone(), item.cid.clone());
            self.scribe.note(Fact::Invoked { room, cid, body: item.digest, attempt: item.attempt });
            let frame =
                json!({ "type": "send", "room": item.room.as_str(), "cid": item.cid.as_str(), "body": *item.body });
            if wire.send(&frame).await.is_none() {
                return false;
            }
        }
        true
    }

    /// Takes answers until something else is to be done; false if the connection is dead.
    async fn listen(&mut self) -> bool {
        let now = Instant::now();
        let mut until = now + Duration::from_millis(250);
        if !self.stage.is_ending() && self.outbox.len() < WINDOW {
            until = until.min(self.next);
        }
        for item in &self.outbox {
            if let State::Due(at) = item.state {
                until = until.min(at);
            }
        }
        let Some(wire) = &mut self.wire else { return false };
        // At least a look: frames that have come are never left for later by who is always due.
        let wait = until.saturating_duration_since(now).max(Duration::from_millis(1));
        match wire.next(wait).await {
            Came::Frame(frame) => self.take(&frame),
            Came::Nothing => {}
            Came::Closed => return false,
        }
        true
    }

    fn take(&mut self, frame: &Value) {
        let Some(cid) = frame["cid"].as_str() else { return };
        let Some(at) = self.outbox.iter().position(|item| item.cid.as_str() == cid) else {
            // A second answer to a send that was repeated: it has to be the same.
            let known = self.recent.iter().find(|item| item.cid.as_str() == cid).map(|item| item.room.clone());
            if let Some(room) = known.filter(|_| frame["type"] == "sent") {
                self.note_sent(room, cid, frame);
            }
            return;
        };
        let room = self.outbox[at].room.clone();
        if frame["type"] == "sent" {
            self.note_sent(room, cid, frame);
            self.outbox[at].state = State::Answered;
        } else if frame["type"] == "error" {
            let retryable = frame["retryable"].as_bool().unwrap_or_default();
            let code = frame["code"].as_str().unwrap_or_default().into();
            self.scribe.note(Fact::Refused { room, cid: Cid::new(cid).expect("our own cid"), code, retryable });
            let wait = Duration::from_millis(frame["retry_after_ms"].as_u64().unwrap_or(100));
            // Of two attempts one may have been accepted already.
            if self.outbox[at].state != State::Answered {
                self.outbox[at].state = if retryable { State::Due(Instant::now() + wait) } else { State::Answered };
            }
        }
        while self.outbox.front().is_some_and(|item| item.state == State::Answered) {
            self.recent.extend(self.outbox.pop_front());
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
    }

    fn note_sent(&self, room: Room, cid: &str, frame: &Value) {
        let id: EntryId = frame["id"].as_str().and_then(|id| id.parse().ok()).expect("sent has an id");
        let seq = frame["seq"].as_u64().expect("sent has a seq");
        let duplicate = frame["duplicate"].as_bool().expect("sent says whether it is a duplicate");
        self.scribe.note(Fact::Accepted { room, cid: Cid::new(cid).expect("our own cid"), id, seq, duplicate });
    }
}
