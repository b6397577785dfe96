//! A tiny system that is right: what its participants write down is a history to find nothing in.

use millstream::model::{Cid, Cursor, DeviceId, EntryId, ResetReason, Resume, Room, Since, UserId};
use millstream::verify::{Content, Digest, Event, Fact, History, Seen, Signal, Wants};

/// Rooms, publishers and subscribers.
const ROOMS: usize = 2;
const PUBLISHERS: usize = 2;
const SUBSCRIBERS: usize = 2;

/// What happens next, and to whom: what a case of a test is made of.
pub(crate) type Step = (u8, u8, u8, u8);

/// A send that got no answer.
struct Open {
    publisher: usize,
    room: usize,
    cid: String,
    attempts: u32,
    stored: Option<(EntryId, u64)>,
}

#[derive(Default, Clone)]
struct Place {
    /// Index of the next entry, on the present connection.
    next: Option<usize>,
    acked: u64,
    saved: Option<Cursor>,
}

#[derive(Default)]
pub(crate) struct World {
    events: Vec<Event>,
    logs: [Vec<Seen>; ROOMS],
    open: Vec<Open>,
    cids: u32,
    connected: [bool; SUBSCRIBERS],
    places: [[Place; ROOMS]; SUBSCRIBERS],
    called: [usize; ROOMS],
    /// Where the last catch-up of everybody begins.
    pub(crate) final_from: usize,
}

pub(crate) fn room(r: usize) -> Room {
    Room::new(&format!("room-{r}")).unwrap()
}

fn publisher(p: usize) -> (UserId, DeviceId) {
    (UserId::new(&format!("u{p}")).unwrap(), DeviceId::new("d").unwrap())
}

pub(crate) fn body(cid: &str) -> Digest {
    Digest::of_json(&format!("{{\"text\":\"{cid}\"}}"))
}

pub(crate) fn message(p: usize, cid: &str) -> Content {
    let (user, device) = publisher(p);
    Content::Message { user, device, cid: Cid::new(cid).unwrap(), body: body(cid) }
}

impl World {
    /// Runs the steps, drains everything and collects the final state.
    pub(crate) fn run(steps: &[Step]) -> (History, usize) {
        let mut world = Self::default();
        for p in 0..PUBLISHERS {
            let (user, device) = publisher(p);
            world.say(format!("publisher-{p}"), Fact::Publisher { user, device });
        }
        for s in 0..SUBSCRIBERS {
            let (user, device) = (UserId::new(&format!("s{s}")).unwrap(), DeviceId::new("d").unwrap());
            world.say(format!("subscriber-{s}"), Fact::Subscriber { user, device });
        }
        let fact = Fact::Endpoint { group: "callback:a".into(), wants: Wants::Everything, rooms: Vec::new() };
        world.say("endpoint-a", fact);
        steps.iter().for_each(|step| world.step(*step));
        world.finish(steps.len());
        (History { events: world.events }, world.final_from)
    }

    fn say(&mut self, who: impl Into<String>, fact: Fact) {
        let at_us = 10 * self.events.len() as u64;
        self.events.push(Event::new(at_us, who.into(), fact));
    }

    fn step(&mut self, (what, who, r, how): Step) {
        let r = usize::from(r) % ROOMS;
        let (p, s) = (usize::from(who) % PUBLISHERS, usize::from(who) % SUBSCRIBERS);
        match what % 10 {
            0 | 1 => self.send(p, r, how),
            2 => self.two_at_once(p, r),
            3 => self.retry(p),
            4 => drop(self.store(r, Content::Event("user_joined".into()))),
            5 => self.join(s, r, how),
            6 => self.deliver(s, r, usize::from(how % 4)),
            7 => self.ack(s, r, how),
            8 => self.cut_or_reset(s, r, how),
            _ => self.call(r, how),
        }
    }

    /// Puts something into the log.
    fn store(&mut self, r: usize, content: Content) -> (EntryId, u64) {
        let seq =
            self.logs[r].last().map_or(0, |seen| seen.seq) + u64::from(matches!(content, Content::Message { .. }));
        let id = EntryId::new(1_000 + self.logs.iter().map(Vec::len).sum::<usize>() as u64, 0);
        self.logs[r].push(Seen { room: room(r), id, seq, content });
        (id, seq)
    }

    fn new_cid(&mut self) -> String {
        self.cids += 1;
        format!("c{}", self.cids)
    }

    fn invoke(&mut self, p: usize, r: usize, cid: &str, attempt: u32) {
        let fact = Fact::Invoked { room: room(r), cid: Cid::new(cid).unwrap(), body: body(cid), attempt };
        self.say(format!("publisher-{p}"), fact);
    }

    fn accept(&mut self, p: usize, r: usize, cid: &str, (id, seq): (EntryId, u64), duplicate: bool) {
        let fact = Fact::Accepted { room: room(r), cid: Cid::new(cid).unwrap(), id, seq, duplicate };
        self.say(format!("publisher-{p}"), fact);
    }

    fn send(&mut self, p: usize, r: usize, how: u8) {
        let cid = self.new_cid();
        self.invoke(p, r, &cid, 1);
        let at = (how % 5 < 3).then(|| self.store(r, message(p, &cid)));
        let name = Cid::new(&cid).unwrap();
        match (how % 5, at) {
            (0 | 1, Some(at)) => self.accept(p, r, &cid, at, false),
            (4, _) => {
                let fact = Fact::Refused { room: room(r), cid: name, code: "forbidden".into(), retryable: false };
                self.say(format!("publisher-{p}"), fact);
            }
            (_, stored) => {
                self.say(format!("publisher-{p}"), Fact::Unanswered { room: room(r), cid: name });
                self.open.push(Open { publisher: p, room: r, cid, attempts: 1, stored });
            }
        }
    }

    fn two_at_once(&mut self, p: usize, r: usize) {
        let (one, two) = (self.new_cid(), self.new_cid());
        self.invoke(p, r, &one, 1);
        self.invoke(p, r, &two, 1);
        let (first, second) = (self.store(r, message(p, &one)), self.store(r, message(p, &two)));
        self.accept(p, r, &one, first, false);
        self.accept(p, r, &two, second, false);
    }

    fn retry(&mut self, p: usize) {
        let Some(n) = self.open.iter().position(|open| open.publisher == p) else { return };
        let Open { room: r, cid, attempts, stored, .. } = self.open.remove(n);
        self.invoke(p, r, &cid, attempts + 1);
        let at = stored.unwrap_or_else(|| self.store(r, message(p, &cid)));
        self.accept(p, r, &cid, at, stored.is_some());
    }

    /// The cursor before the n-th entry.
    fn cursor(&self, r: usize, n: usize) -> Cursor {
        n.checked_sub(1).map_or(Cursor::START, |n| Cursor::new(self.logs[r][n].id, self.logs[r][n].seq))
    }

    fn join(&mut self, s: usize, r: usize, how: u8) {
        let who = format!("subscriber-{s}");
        if !self.connected[s] {
            self.connected[s] = true;
            self.say(&*who, Fact::Connected);
        }
        let end = self.logs[r].len();
        let fresh = self.cursor(r, end.saturating_sub(2));
        let (asked, resume, since) = match (how % 2, self.places[s][r].saved) {
            (0, Some(saved)) => (None, Resume::Resumed, saved),
            (0, None) => (None, Resume::Fresh, fresh),
            (_, Some(saved)) => (Some(Since::Cursor(saved)), Resume::Resumed, saved),
            (_, None) => (Some(Since::Start), Resume::Fresh, Cursor::START),
        };
        self.places[s][r].next = Some(self.logs[r].partition_point(|seen| seen.id <= since.id));
        let head = self.cursor(r, end);
        self.say(who, Fact::Joined { room: room(r), asked, resume, reason: None, since, head });
    }

    fn deliver(&mut self, s: usize, r: usize, most: usize) {
        let Some(next) = self.places[s][r].next else { return };
        let to = self.logs[r].len().min(next.saturating_add(most));
        for n in next..to {
            let seen = self.logs[r][n].clone();
            self.say(format!("subscriber-{s}"), Fact::Delivered { seen, replay: n % 2 == 0 });
        }
        self.places[s][r].next = Some(to);
        if to == self.logs[r].len() {
            let seq = self.cursor(r, to).seq;
            self.say(format!("subscriber-{s}"), Fact::Live { room: room(r), seq });
        }
    }

    fn ack(&mut self, s: usize, r: usize, how: u8) {
        let Some(next) = self.places[s][r].next else { return };
        let cursor = self.cursor(r, next);
        let place = &mut self.places[s][r];
        if cursor.seq < place.acked {
            return;
        }
        place.acked = cursor.seq;
        if how.is_multiple_of(2) {
            place.saved = Some(cursor);
        }
        self.say(format!("subscriber-{s}"), Fact::Acked { room: room(r), seq: cursor.seq });
    }

    fn cut_or_reset(&mut self, s: usize, r: usize, how: u8) {
        let who = format!("subscriber-{s}");
        match (how % 3, self.places[s][r].next) {
            (0, Some(next)) => {
                let to = self.logs[r].len().min(next + 1);
                self.places[s][r].next = Some(to);
                let from = self.cursor(r, to);
                self.say(who, Fact::Reset { room: room(r), reason: ResetReason::Trimmed, from });
            }
            _ if self.connected[s] => {
                self.connected[s] = false;
                self.places[s].iter_mut().for_each(|place| place.next = None);
                self.say(who, if how % 3 == 1 { Fact::Crashed } else { Fact::Disconnected });
            }
            _ => {}
        }
    }

    fn call(&mut self, r: usize, how: u8) {
        let Some(seen) = self.logs[r].get(self.called[r]).cloned() else { return };
        self.called[r] += 1;
        let statuses: &[u16] = [&[200][..], &[500, 200], &[0, 204], &[200, 200]][usize::from(how % 4)];
        for status in statuses {
            let webhook_id = format!("msg_{}_{}", room(r), seen.id).into();
            let bytes = Digest::of_bytes(seen.to_string().as_bytes());
            let fact = Fact::Called { webhook_id, bytes, status: *status, replay: false, seen: seen.clone() };
            self.say("endpoint-a", fact);
        }
    }

    fn finish(&mut self, trimmed: usize) {
        self.say("supervisor", Fact::Healed);
        for p in 0..PUBLISHERS {
            (0..2).for_each(|_| self.retry(p));
        }
        self.final_from = self.events.len();
        for r in 0..ROOMS {
            for s in 0..SUBSCRIBERS {
                if self.places[s][r].next.is_none() {
                    self.join(s, r, 0);
                }
                self.deliver(s, r, usize::MAX);
            }
            while self.called[r] < self.logs[r].len() {
                self.call(r, 0);
            }
        }
        for r in 0..ROOMS {
            let log = self.logs[r].clone();
            let first = trimmed % (log.len() / 2 + 1);
            let floor = log.get(first).map_or(EntryId::ZERO, |seen| seen.id);
            self.say("supervisor", Fact::Floor { room: room(r), id: floor });
            for (n, seen) in log.into_iter().enumerate() {
                self.say("supervisor", Fact::Archived { seen: seen.clone() });
                if n >= first {
                    self.say("supervisor", Fact::Logged { epoch: "e1".into(), seen });
                }
            }
            for s in 0..SUBSCRIBERS {
                if let Some(cursor) = self.places[s][r].saved {
                    let (user, device) = (UserId::new(&format!("s{s}")).unwrap(), DeviceId::new("d").unwrap());
                    self.say("supervisor", Fact::Saved { user, device, room: room(r), cursor });
                }
            }
        }
        self.last_words();
    }

    fn last_words(&mut self) {
        let count = |what: fn(&Fact) -> bool| self.events.iter().filter(|event| what(&event.fact)).count() as f64;
        let rows = count(|fact| matches!(fact, Fact::Archived { .. }));
        let metrics = [
            ("millstream_archive_rows_total", rows),
            ("millstream_archive_duplicates_total", 5.0),
            ("millstream_sends_accepted_total", count(|fact| matches!(fact, Fact::Accepted { .. }))),
            ("millstream_deliveries_total", 100.0 + count(|fact| matches!(fact, Fact::Delivered { .. }))),
            ("millstream_callback_attempts_total", 100.0 + count(|fact| matches!(fact, Fact::Called { .. }))),
        ];
        for (name, value) in metrics {
            self.say("supervisor", Fact::Metric { process: "all".into(), name: name.into(), value, whole: true });
        }
        self.say("supervisor", Fact::Pending { group: "archive".into(), count: 0 });
        let exited = Fact::Exited {
            process: "edge".into(),
            asked: Signal::Term,
            took_ms: 20,
            grace_ms: 20_000,
            status: Some(0),
        };
        self.say("supervisor", exited);
        self.say("supervisor", Fact::Collected);
    }
}
