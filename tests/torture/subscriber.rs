//! Who reads: an application with a device, that takes messages over, acknowledges them, and lives
//! as its style says.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::model::{Cursor, DeviceId, EntryId, Room, Since, UserId};
use millstream::verify::Fact;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::recorder::Scribe;
use crate::run::Stage;
use crate::seen;
use crate::wire::{Came, Identity, Wire};

/// Wait between two attempts to connect.
const PAUSE: Duration = Duration::from_millis(200);
/// Longest pause of a slow reader in milliseconds: a little longer than an edge allows.
const STALL_MS_MAX: u64 = 8_000;
/// How long nothing may come before a reader tries another connection: there is traffic all the time.
const SILENCE: Duration = Duration::from_secs(8);

/// How a reader lives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Style {
    /// Stays.
    Steady,
    /// Comes and goes.
    Flap,
    /// Goes for longer than the log keeps what it misses.
    Sleep(Duration),
    /// Reads slowly.
    Slow,
    /// Comes when the run is well under way.
    Late(Duration),
    /// One of two tabs of a device: each connection replaces the other's.
    Tab,
    /// Dies between taking a message over and acknowledging it.
    Crash,
}

/// What a subscriber is made of.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) style: Style,
    pub(crate) edges: Vec<String>,
    pub(crate) rooms: Vec<Room>,
    pub(crate) identity: Identity,
    /// Whether it remembers its own cursors instead of using the saved ones.
    pub(crate) own_cursors: bool,
}

/// What the application knows of a room.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// The last entry it has taken over.
    taken: Option<Cursor>,
    /// The last one it has acknowledged.
    acked: Option<Cursor>,
    /// Delivered on this connection up to here; nothing while it isn't joined.
    here: Option<Cursor>,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// By itself, or by the other side.
    Cut,
    /// With a goodbye.
    Goodbye,
    /// The application died.
    Crash,
    /// Everything is there.
    Done,
}

/// A subscriber.
pub(crate) struct Subscriber {
    plan: Plan,
    scribe: Scribe,
    stage: Stage,
    rng: StdRng,
    places: BTreeMap<Room, Place>,
}

impl Subscriber {
    /// A subscriber that has not connected yet.
    pub(crate) fn new(plan: Plan, scribe: Scribe, stage: Stage) -> Self {
        let places = plan.rooms.iter().map(|room| (room.clone(), Place::default())).collect();
        Self { rng: StdRng::seed_from_u64(plan.seed), plan, scribe, stage, places }
    }

    /// Reads until the run ends and everything in its rooms is there.
    pub(crate) async fn run(mut self) {
        let user = UserId::new(&self.plan.identity.user).expect("a user");
        let device = DeviceId::new(&self.plan.identity.device).expect("a device");
        self.scribe.note(Fact::Subscriber { user, device });
        if let Style::Late(after) = self.plan.style {
            self.stage.ending_within(after).await;
        }
        loop {
            let edge = self.rng.random_range(0..self.plan.edges.len());
            let Some(wire) = Wire::connect(&self.plan.edges[edge], &self.plan.identity).await else {
                sleep(PAUSE).await;
                continue;
            };
            if self.live(wire).await == End::Done {
                return;
            }
            let away = self.away();
            self.stage.ending_within(away).await;
            if self.plan.style == Style::Tab {
                // The other tab's connection ended this one: time to read something before it happens to that.
                sleep(Duration::from_millis(self.rng.random_range(200..3_000))).await;
            }
        }
    }

    /// How long it stays away after a connection.
    fn away(&mut self) -> Duration {
        match self.plan.style {
            Style::Sleep(time) => time.mul_f64(self.rng.random_range(1.1..1.6)),
            Style::Flap => Duration::from_millis(self.rng.random_range(0..1_500)),
            _ => PAUSE,
        }
    }

    /// How long it stays connected.
    fn stay(&mut self) -> Duration {
        let ms = match self.plan.style {
            Style::Flap => self.rng.random_range(200..3_000),
            Style::Sleep(_) => self.rng.random_range(1_500..4_000),
            Style::Crash => self.rng.random_range(1_000..6_000),
            Style::Steady | Style::Slow | Style::Late(_) | Style::Tab => 3_600_000,
        };
        Duration::from_millis(ms)
    }

    /// One connection, from its welcome to its end.
    async fn live(&mut self, mut wire: Wire) -> End {
        self.scribe.note(Fact::Connected);
        self.places.values_mut().for_each(|place| place.here = None);
        let until = Instant::now() + self.stay();
        let mut end = self.read(&mut wire, until).await;
        if end == End::Goodbye && self.rng.random_bool(0.5) {
            end = End::Cut;
        }
        match end {
            End::Cut => drop(wire),
            End::Goodbye => wire.close().await,
            End::Crash => {
                drop(wire);
                self.places.values_mut().for_each(|place| place.taken = place.acked);
                self.scribe.note(Fact::Crashed);
            }
            End::Done => {
                for room in self.places.keys().cloned() {
                    self.scribe.note(Fact::Left { room });
                }
                wire.close().await;
            }
        }
        if end != End::Crash {
            self.scribe.note(Fact::Disconnected);
        }
        end
    }

    /// Joins its rooms and takes over what comes.
    async fn read(&mut self, wire: &mut Wire, until: Instant) -> End {
        for room in self.plan.rooms.clone() {
            if wire.send(&self.join(&room)).await.is_none() {
                return End::Cut;
            }
        }
        let mut heard = Instant::now();
        loop {
            let ending = self.stage.targets();
            if ending.is_none() && Instant::now() >= until {
                return if self.plan.style == Style::Crash { End::Crash } else { End::Goodbye };
            }
            match wire.next(Duration::from_millis(self.rng.random_range(20..200))).await {
                Came::Frame(frame) => {
                    heard = Instant::now();
                    if !self.take(&frame) {
                        return End::Cut;
                    }
                    if self.plan.style == Style::Slow && ending.is_none() {
                        let pause = self.pause();
                        self.stage.ending_within(pause).await;
                    }
                    // In many small steps, so that a crash finds something that isn't acknowledged.
                    if self.rng.random_bool(0.9) {
                        continue;
                    }
                }
                Came::Nothing => {}
                Came::Closed => return End::Cut,
            }
            if !self.ack(wire).await {
                return End::Cut;
            }
            if ending.is_some_and(|targets| self.has_all(&targets)) {
                return End::Done;
            }
            if heard.elapsed() > SILENCE {
                return End::Cut;
            }
        }
    }

    /// Between two frames: a little, and at times so long that what comes meanwhile fits nowhere.
    fn pause(&mut self) -> Duration {
        let long = self.rng.random_ratio(1, 80);
        Duration::from_millis(self.rng.random_range(if long { 1_000..STALL_MS_MAX } else { 2..30 }))
    }

    fn join(&self, room: &Room) -> Value {
        let mut frame = json!({ "type": "join", "room": room.as_str() });
        if let Some(since) = self.since(room) {
            frame["since"] = match since {
                Since::Cursor(cursor) => json!({ "id": cursor.id.to_string(), "seq": cursor.seq }),
                _ => json!("start"),
            };
        }
        frame
    }

    /// What it asks for when it joins; nothing: the saved cursor, and without one, the start.
    fn since(&self, room: &Room) -> Option<Since> {
        let place = self.places.get(room)?;
        let own = || place.taken.map_or(Since::Start, Since::Cursor);
        self.plan.own_cursors.then(own)
    }

    /// Notes what a frame says; false if it says that the connection is of no use.
    fn take(&mut self, frame: &Value) -> bool {
        let room = frame["room"].as_str().and_then(|room| Room::new(room).ok());
        match (frame["type"].as_str().unwrap_or_default(), room) {
            ("joined", Some(room)) => self.joined(room, frame),
            ("message" | "event", Some(room)) => self.delivered(&room, frame, false),
            ("replay", Some(room)) => {
                for entry in frame["entries"].as_array().into_iter().flatten() {
                    self.delivered(&room, entry, true);
                }
            }
            ("live", Some(room)) => {
                let seq = frame["seq"].as_u64().expect("live has a seq");
                self.scribe.note(Fact::Live { room, seq });
            }
            ("reset", Some(room)) => {
                let from = seen::cursor(&frame["from"]).expect("reset has a cursor");
                let reason = seen::word(&frame["reason"]).expect("reset has a reason");
                self.place(&room).here = Some(from);
                self.scribe.note(Fact::Reset { room, reason, from });
            }
            // A join that was refused for now: a new connection asks again.
            ("error" | "bye", _) => return false,
            _ => {}
        }
        true
    }

    fn joined(&mut self, room: Room, frame: &Value) {
        let asked = self.since(&room);
        let since = seen::cursor(&frame["since"]).expect("joined has since");
        let head = seen::cursor(&frame["head"]).expect("joined has a head");
        let resume = seen::word(&frame["resume"]).expect("joined has resume");
        let reason = seen::word(&frame["reason"]);
        self.place(&room).here = Some(since);
        self.scribe.note(Fact::Joined { room, asked, resume, reason, since, head });
    }

    fn delivered(&mut self, room: &Room, entry: &Value, replay: bool) {
        let seen = seen::entry(entry, Some(room)).unwrap_or_else(|| panic!("an entry that can't be read: {entry}"));
        let cursor = Cursor::new(seen.id, seen.seq);
        let place = self.place(room);
        place.here = Some(cursor);
        place.taken = place.taken.max(Some(cursor));
        self.scribe.note(Fact::Delivered { seen, replay });
    }

    fn place(&mut self, room: &Room) -> &mut Place {
        self.places.entry(room.clone()).or_default()
    }

    /// Acknowledges what has been taken over; false if the connection is dead.
    async fn ack(&mut self, wire: &mut Wire) -> bool {
        for (room, place) in &mut self.places {
            let Some(taken) = place.taken.filter(|_| place.here.is_some()) else { continue };
            // Of what this connection has delivered: more would be an error.
            let upto = taken.min(place.here.unwrap_or_default());
            if place.acked.is_some_and(|acked| acked.seq >= upto.seq) {
                continue;
            }
            place.acked = Some(upto);
            self.scribe.note(Fact::Acked { room: room.clone(), seq: upto.seq });
            let frame = json!({ "type": "ack", "room": room.as_str(), "seq": upto.seq });
            if wire.send(&frame).await.is_none() {
                return false;
            }
        }
        true
    }

    fn has_all(&self, targets: &BTreeMap<Room, EntryId>) -> bool {
        self.plan.rooms.iter().all(|room| {
            let here = self.places.get(room).and_then(|place| place.here);
            targets.get(room).is_none_or(|target| here.is_some_and(|here| here.id >= *target))
        })
    }
}
