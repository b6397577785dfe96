//! What is left behind: log, archive, cursors, what groups did not settle, dead letters, metrics, logs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use millstream::model::{Cid, Cursor, DeviceId, Entry, EntryId, EntryKind, Item, Partitions, Room, UserId};
use millstream::telemetry::names;
use millstream::verify::{Content, Digest, Fact, Seen};
use tokio::time::timeout;

use crate::drain::{GROUPS, left_to};
use crate::recorder::Scribe;
use crate::supervisor::{PARTITIONS, PROCESSES, System};
use crate::support::{Reply, get};

/// Series of metrics that say that something has happened.
const HAPPENED: [(&str, &str); 4] = [
    ("millstream_log_trimmed_entries_total", "trim"),
    ("millstream_replay_pages_total{source=\"archive\"", "read-from-archive"),
    ("millstream_catch_ups_total{cause=\"slow_reader\"", "slow-reader"),
    ("millstream_archive_duplicates_total", "repeated-batch"),
];
/// Entries of one read.
const PAGE: &str = "5000";

/// How long a process may take to show its metrics while others break: one that is frozen shows none.
const GLANCE: Duration = Duration::from_secs(1);

/// Notes what the metrics say has happened so far, each once: a process that is killed takes its counts along.
pub(crate) async fn happened(system: &System, scribe: &Scribe, known: &mut BTreeSet<&'static str>) {
    for (_, addr, _) in system.metrics() {
        let Ok((_, text)) = timeout(GLANCE, get(addr, "/metrics", &[])).await else { continue };
        for what in HAPPENED.iter().filter(|(begin, _)| counts(&text, begin)).map(|(_, what)| *what) {
            if known.insert(what) {
                scribe.note(Fact::Happened { what: what.into() });
            }
        }
    }
}

/// Whether a series that begins so is above nothing.
fn counts(text: &str, begin: &str) -> bool {
    let values = text.lines().filter(|line| line.starts_with(begin)).filter_map(|line| line.rsplit_once(' '));
    values.into_iter().any(|(_, value)| value.parse::<f64>().is_ok_and(|value| value > 0.0))
}

/// The metrics of all processes, while they still run.
pub(crate) async fn metrics(system: &System, scribe: &Scribe, known: &mut BTreeSet<&'static str>) {
    for (series, _) in HAPPENED {
        let name = series.split('{').next().unwrap_or(series);
        assert!(names::ALL.iter().any(|metric| metric.name == name), "there is no metric {name}");
    }
    happened(system, scribe, known).await;
    for (process, addr, whole) in system.metrics() {
        let (_, text) = get(addr, "/metrics", &[]).await;
        let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let name = series.split('{').next().unwrap_or(series);
            let Ok(value) = value.parse::<f64>() else { continue };
            *sums.entry(name).or_default() += value;
        }
        for (name, value) in sums {
            let (process, name) = (process.into(), name.into());
            scribe.note(Fact::Metric { process, name, value, whole });
        }
    }
}

/// Everything else, when all processes have ended.
pub(crate) async fn everything(system: &System, scribe: &Scribe) {
    let mut rooms = archive(system, scribe).await;
    rooms.extend(log(system, scribe).await);
    floors(system, scribe, &rooms).await;
    cursors(system, scribe).await;
    for group in GROUPS {
        let mut count = 0;
        for p in 0..PARTITIONS {
            count += left_to(system, group, p).await;
        }
        scribe.note(Fact::Pending { group: group.into(), count });
        dead(system, scribe, group).await;
    }
    panics(system, scribe);
}

/// Lines of the processes' logs that say that something is wrong.
fn panics(system: &System, scribe: &Scribe) {
    for (process, _) in PROCESSES {
        for line in system.log(process).lines().filter(|line| line.contains("panicked")) {
            scribe.note(Fact::LogText { process: (*process).into(), kind: "panic".into(), text: line.to_owned() });
        }
    }
}

async fn log(system: &System, scribe: &Scribe) -> BTreeSet<Room> {
    let mut rooms = BTreeSet::new();
    for p in 0..PARTITIONS {
        let key = |name: &str| format!("{}:{{{p}}}:{name}", system.prefix);
        let epoch = system.redis.command(["GET", &key("epoch")]).await.text();
        let mut from = "-".to_owned();
        loop {
            let page = system.redis.command(["XRANGE", &key("log"), &from, "+", "COUNT", PAGE]).await.list();
            let Some(last) = page.last().cloned() else { break };
            from = format!("({}", last.list()[0].text());
            for entry in page {
                let seen = opened(entry);
                rooms.insert(seen.room.clone());
                scribe.note(Fact::Logged { epoch: epoch.as_str().into(), seen });
            }
        }
    }
    rooms
}

/// What a partition held before its first entry may have been trimmed.
async fn floors(system: &System, scribe: &Scribe, rooms: &BTreeSet<Room>) {
    let partitions = Partitions::new(PARTITIONS).expect("a number of partitions");
    for p in partitions.all() {
        let key = format!("{}:{{{p}}}:log", system.prefix);
        let first = system.redis.command(["XRANGE", &key, "-", "+", "COUNT", "1"]).await.list();
        let id = match first.into_iter().next() {
            Some(first) => first.list()[0].text().parse().expect("an id"),
            None => EntryId::MAX,
        };
        for room in rooms.iter().filter(|room| partitions.of(room.as_str()) == p) {
            scribe.note(Fact::Floor { room: room.clone(), id });
        }
    }
}

fn opened(entry: Reply) -> Seen {
    let mut parts = entry.list().into_iter();
    let id = parts.next().expect("an id").text().parse().expect("an id");
    let values = parts.next().expect("fields").list();
    let field = |name: &str| {
        values.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone()).expect("a field of the log")
    };
    let kind = if field("k").text() == "m" { EntryKind::Message } else { EntryKind::Event };
    let seq = field("s").text().parse().expect("a seq");
    let room = Room::new(&field("r").text()).expect("a room");
    let envelope = Bytes::from(field("e").bytes());
    let entry = Entry { id, room: room.clone(), seq, kind, envelope };
    let content = match entry.open().expect("an envelope") {
        Item::Message(message) => Content::Message {
            user: UserId::new(message.user).expect("a user"),
            device: DeviceId::new(message.device).expect("a device"),
            cid: Cid::new(message.cid).expect("a cid"),
            body: Digest::of_json(message.body),
        },
        Item::Event(event) => Content::Event(event.event.into()),
    };
    Seen { room, id, seq, content }
}

async fn archive(system: &System, scribe: &Scribe) -> BTreeSet<Room> {
    type Message = (String, i64, i64, i64, String, String, String, String);
    let pool = &system.database.pool;
    let messages: Vec<Message> =
        sqlx::query_as("SELECT room, ms, n, seq, user_id, device, cid, body::text FROM messages ORDER BY room, ms, n")
            .fetch_all(pool)
            .await
            .expect("the archive can be read");
    let events: Vec<(String, i64, i64, i64, String)> =
        sqlx::query_as("SELECT room, ms, n, seq, event FROM room_events ORDER BY room, ms, n")
            .fetch_all(pool)
            .await
            .expect("the archive can be read");
    let place = |room: &str, ms: i64, n: i64, seq: i64| {
        (Room::new(room).expect("a room"), EntryId::new(ms.unsigned_abs(), n.unsigned_abs()), seq.unsigned_abs())
    };
    let mut rooms = BTreeSet::new();
    let mut note = |(room, id, seq): (Room, EntryId, u64), content: Content| {
        rooms.insert(room.clone());
        scribe.note(Fact::Archived { seen: Seen { room, id, seq, content } });
    };
    for (room, ms, n, seq, user, device, cid, body) in messages {
        let content = Content::Message {
            user: UserId::new(&user).expect("a user"),
            device: DeviceId::new(&device).expect("a device"),
            cid: Cid::new(&cid).expect("a cid"),
            body: Digest::of_json(&body),
        };
        note(place(&room, ms, n, seq), content);
    }
    for (room, ms, n, seq, event) in events {
        note(place(&room, ms, n, seq), Content::Event(event.into()));
    }
    rooms
}

async fn cursors(system: &System, scribe: &Scribe) {
    let prefix = format!("{}:cursor:", system.prefix);
    for key in system.redis.command(["KEYS", &format!("{prefix}*")]).await.list() {
        let key = key.text();
        let (user, device) = key[prefix.len()..].split_once(':').expect("a user and a device");
        let saved = system.redis.command(["HGETALL", &key]).await.list();
        for pair in saved.chunks(2) {
            let room = Room::new(&pair[0].text()).expect("a room");
            let cursor: Cursor = pair[1].text().parse().expect("a cursor");
            let (user, device) = (UserId::new(user).expect("a user"), DeviceId::new(device).expect("a device"));
            scribe.note(Fact::Saved { user, device, room, cursor });
        }
    }
}

async fn dead(system: &System, scribe: &Scribe, group: &str) {
    let key = format!("{}:dead:{group}", system.prefix);
    for letter in system.redis.command(["XRANGE", &key, "-", "+"]).await.list() {
        let values = letter.list().swap_remove(1).list();
        let field = |name: &str| {
            values.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].text()).unwrap_or_default()
        };
        let id = field("original").parse().expect("a dead letter has the id of its entry");
        let room = Room::new(&field("r")).expect("an entry has a room");
        scribe.note(Fact::Dead { group: group.into(), room, id, reason: field("reason").as_str().into() });
    }
}
