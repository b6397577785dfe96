//! The callback worker against a real Redis and real endpoints.

#![expect(clippy::unwrap_used, reason = "tests may fail where they look")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream::callback;
use millstream::config::{EndpointSettings, Secret, Settings, Span};
use millstream::model::{Item, Message, PartitionId, Partitions, SenderType};
use millstream::shutdown::Shutdown;
use millstream::stream;
use millstream::telemetry::Readiness;
use support::{CALLBACK_SECRET, DEADLINE, Receiver, Redis, Reply, Respond, eventually, unique, wait_until};
use tokio::task::JoinHandle;

const PARTITIONS: u16 = 2;

/// A log that tests write to, and workers that call back from it.
struct Bench {
    redis: &'static Redis,
    door: stream::Redis,
    settings: Settings,
    partitions: Partitions,
    seqs: BTreeMap<String, u64>,
}

/// A worker in this process; dropping it is like killing it.
struct Worker {
    task: JoinHandle<millstream::Result<()>>,
    shutdown: Shutdown,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// As SIGTERM does.
    async fn stop(mut self) {
        self.shutdown.request();
        let ended = tokio::time::timeout(DEADLINE, &mut self.task).await.expect("it stops in time");
        ended.unwrap().unwrap();
    }

    /// As a power cut does.
    async fn kill(mut self) {
        self.task.abort();
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }
}

fn endpoint(name: &str, receiver: &Receiver) -> EndpointSettings {
    EndpointSettings {
        name: name.into(),
        url: receiver.url(),
        secrets: vec![Secret::new(CALLBACK_SECRET)],
        retry_delay: Some(Span::millis(20)),
        allow_private: Some(true),
        ..EndpointSettings::default()
    }
}

impl Bench {
    async fn new(endpoints: Vec<EndpointSettings>) -> Self {
        Self::on(Redis::shared().await, endpoints).await
    }

    async fn on(redis: &'static Redis, endpoints: Vec<EndpointSettings>) -> Self {
        let mut settings = Settings::default();
        settings.redis.url = Secret::new(redis.url());
        settings.redis.prefix = unique("calls");
        settings.callback.endpoints = endpoints;
        settings.group.lease_ttl = Span::millis(1_500);
        settings.group.lease_interval = Span::millis(200);
        settings.shutdown.grace = Span::secs(5);
        let door = stream::Redis::connect(&settings.redis).await.unwrap();
        let partitions = Partitions::new(PARTITIONS).unwrap();
        for p in partitions.all() {
            // As the archive worker does, which is not here.
            redis.command(["SET", &door.keys().epoch(p), "1"]).await;
        }
        Self { redis, door, settings, partitions, seqs: BTreeMap::new() }
    }

    fn worker(&self) -> Worker {
        let (settings, door, partitions) = (self.settings.clone(), self.door.clone(), self.partitions);
        let shutdown = Shutdown::new();
        let signal = shutdown.clone();
        let task =
            tokio::spawn(
                async move { callback::run(&settings, door, partitions, signal, &Readiness::default()).await },
            );
        Worker { task, shutdown }
    }

    async fn publish(&mut self, room: &str, body: &str) {
        let seq = self.seqs.entry(room.into()).or_default();
        *seq += 1;
        let item = Item::Message(Message {
            user: "alice",
            device: "phone",
            cid: "c",
            kind: "text",
            body,
            sender_type: SenderType::User,
            file: None,
        });
        let (log, seq) = (self.door.keys().log(self.partitions.of(room)), seq.to_string());
        let fields = [b"XADD", log.as_bytes(), b"*", b"r", room.as_bytes(), b"s", seq.as_bytes(), b"k", b"m", b"e"];
        let mut command: Vec<Vec<u8>> = fields.iter().map(|field| field.to_vec()).collect();
        command.push(item.encode());
        assert!(!self.redis.command(command).await.is_error());
    }

    async fn publish_all(&mut self, rooms: &[&str], each: u64) {
        for _ in 0..each {
            for room in rooms {
                self.publish(room, "1").await;
            }
        }
    }

    /// The reason of each dead letter of an endpoint.
    async fn dead(&self, endpoint: &str) -> Vec<String> {
        let key = self.door.keys().dead(&format!("callback:{endpoint}"));
        let letters = self.redis.command(["XRANGE", &key, "-", "+"]).await.list();
        letters.into_iter().map(|letter| reason(letter.list().remove(1).list())).collect()
    }

    /// Entries that were handed to an endpoint's worker and aren't settled.
    async fn pending(&self, endpoint: &str) -> i64 {
        let mut pending = 0;
        for p in self.partitions.all() {
            let (log, group) = (self.door.keys().log(p), format!("callback:{endpoint}"));
            let reply = self.redis.command(["XPENDING", &log, &group]).await;
            if !reply.is_error() {
                pending += reply.list()[0].int();
            }
        }
        pending
    }
}

fn reason(fields: Vec<Reply>) -> String {
    let at = fields.iter().position(|field| matches!(field, Reply::Bytes(name) if name == b"reason"));
    fields[at.expect("a dead letter has a reason") + 1].text()
}

/// The seqs of each room in the order in which they were first accepted.
fn accepted(receiver: &Receiver) -> BTreeMap<String, Vec<u64>> {
    let mut rooms: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for callback in receiver.accepted() {
        let data = &callback.json()["data"];
        rooms.entry(data["room"].as_str().unwrap().into()).or_default().push(data["seq"].as_u64().unwrap());
    }
    rooms
}

async fn all_accepted(receiver: &Receiver, rooms: &[&str], each: u64) {
    let wanted: BTreeMap<String, Vec<u64>> = rooms.iter().map(|room| ((*room).into(), (1..=each).collect())).collect();
    let count = wanted.values().map(Vec::len).sum();
    wait_until("everything is accepted", async || receiver.accepted().len() >= count).await;
    assert_eq!(accepted(receiver), wanted);
}

#[tokio::test]
async fn a_dead_endpoint_delays_no_other() {
    let (dead, alive) = (Receiver::start().await, Receiver::start().await);
    dead.answer(|_| Respond::Hang);
    let mut bench = Bench::new(vec![endpoint("dead", &dead), endpoint("alive", &alive)]).await;
    let rooms = ["a", "b", "c", "d"];
    bench.publish_all(&rooms, 25).await;
    let _worker = bench.worker();
    all_accepted(&alive, &rooms, 25).await;
    assert!(dead.seen().iter().all(|callback| callback.status == 0));
    assert!(bench.dead("alive").await.is_empty());
}

#[tokio::test]
async fn a_killed_worker_loses_nothing_and_the_next_keeps_the_order() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Late(Duration::from_millis(3)));
    let mut bench = Bench::new(vec![endpoint("one", &receiver)]).await;
    let rooms = ["a", "b", "c"];
    bench.publish_all(&rooms, 60).await;
    for kill_at in [20, 80, 120] {
        let worker = bench.worker();
        wait_until("some were accepted", async || receiver.accepted().len() >= kill_at).await;
        worker.kill().await;
    }
    let _worker = bench.worker();
    all_accepted(&receiver, &rooms, 60).await;
    assert!(bench.dead("one").await.is_empty());
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_repeats_nothing() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Late(Duration::from_millis(3)));
    let mut bench = Bench::new(vec![endpoint("one", &receiver)]).await;
    bench.publish_all(&["a", "b"], 100).await;
    for stop_at in [20, 90] {
        let worker = bench.worker();
        wait_until("some were accepted", async || receiver.accepted().len() >= stop_at).await;
        worker.stop().await;
    }
    let _worker = bench.worker();
    all_accepted(&receiver, &["a", "b"], 100).await;
    assert_eq!(receiver.seen().len(), 200, "something was attempted twice");
}

#[tokio::test]
async fn attempts_are_counted_over_restarts() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Status(500));
    let slow = EndpointSettings { retry_delay: Some(Span::millis(500)), ..endpoint("one", &receiver) };
    let mut bench = Bench::new(vec![slow]).await;
    bench.publish("a", "1").await;
    let worker = bench.worker();
    let attempts = bench.door.keys().attempts(bench.partitions.of("a"), "callback:one");
    let failures = async || {
        let values = bench.redis.command(["HVALS", &attempts]).await.list();
        values.first().map(|value| value.text().split(',').next().unwrap().parse::<u64>().unwrap())
    };
    eventually("two failures are written down", async || failures().await.filter(|failures| *failures >= 2)).await;
    worker.kill().await;
    let before = receiver.seen().len();
    assert_eq!(before, 2);
    let _worker = bench.worker();
    let dead = eventually("the item is given up", async || bench.dead("one").await.pop()).await;
    assert_eq!(dead, "attempts_exhausted");
    assert_eq!(receiver.seen().len(), 4, "max_retries is 3");
    wait_until("the record is gone", async || failures().await.is_none()).await;
}

#[tokio::test]
async fn a_pause_survives_a_restart_until_it_is_lifted() {
    let receiver = Receiver::start().await;
    let gone = Arc::new(AtomicBool::new(true));
    let is_gone = gone.clone();
    receiver.answer(move |_| Respond::Status(if is_gone.load(Ordering::SeqCst) { 410 } else { 200 }));
    let one_at_a_time = EndpointSettings { concurrency: 1, max_retries: Some(0), ..endpoint("one", &receiver) };
    let mut bench = Bench::new(vec![one_at_a_time]).await;
    bench.publish_all(&["a", "b"], 2).await;
    let worker = bench.worker();
    let paused = async || callback::paused_at(&bench.door, "one").await.unwrap().is_some();
    wait_until("the pause is kept", paused).await;
    worker.stop().await;
    gone.store(false, Ordering::SeqCst);
    let _worker = bench.worker();
    wait_until("the next worker has them all", async || bench.pending("one").await == 4).await;
    assert_eq!(receiver.seen().len(), 1, "a paused endpoint was called");
    assert!(callback::resume(&bench.door, "one").await.unwrap());
    all_accepted(&receiver, &["a", "b"], 2).await;
    assert!(bench.dead("one").await.is_empty());
}

#[tokio::test]
async fn a_backlog_that_memory_has_no_room_for_keeps_its_order() {
    let receiver = Receiver::start().await;
    let mut bench = Bench::new(vec![endpoint("one", &receiver)]).await;
    // Two rooms of one partition, with three times what may wait in memory.
    let mut same = ('a'..='z').map(String::from).filter(|room| bench.partitions.of(room) == PartitionId(0));
    let rooms = [same.next().unwrap(), same.next().unwrap()];
    let rooms = [rooms[0].as_str(), rooms[1].as_str()];
    let large = format!("\"{}\"", "x".repeat(30_000));
    for _ in 0..200 {
        for room in rooms {
            bench.publish(room, &large).await;
        }
    }
    bench.redis.command(["HSET", &bench.door.keys().callback("one"), "paused_at", "1"]).await;
    let _worker = bench.worker();
    wait_until("all of it waits", async || bench.pending("one").await == 400).await;
    assert!(receiver.seen().is_empty());
    callback::resume(&bench.door, "one").await.unwrap();
    all_accepted(&receiver, &rooms, 200).await;
    assert!(receiver.accepted().iter().all(|callback| callback.json()["data"]["body"] == "x".repeat(30_000)));
}

#[tokio::test]
async fn a_new_endpoint_may_begin_with_what_comes_now() {
    let (old, new) = (Receiver::start().await, Receiver::start().await);
    let now = EndpointSettings { start: millstream::config::StartFrom::Now, ..endpoint("new", &new) };
    let mut bench = Bench::new(vec![endpoint("old", &old), now]).await;
    bench.publish_all(&["a"], 3).await;
    let worker = bench.worker();
    all_accepted(&old, &["a"], 3).await;
    let groups = async || {
        let log = bench.door.keys().log(bench.partitions.of("a"));
        bench.redis.command(["XINFO", "GROUPS", &log]).await.list().len()
    };
    wait_until("both groups are there", async || groups().await == 2).await;
    bench.publish_all(&["a"], 2).await;
    wait_until("the new one has what came", async || new.accepted().len() == 2).await;
    assert_eq!(accepted(&new)["a"], [4, 5]);
    worker.stop().await;
}

#[tokio::test]
async fn a_redis_that_goes_away_costs_no_attempt_and_loses_nothing() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Late(Duration::from_millis(5)));
    // The runner may outlive the test; the server ends with the test program.
    let redis: &'static Redis = Box::leak(Box::new(Redis::start(&[]).await));
    let no_retries = EndpointSettings { max_retries: Some(0), ..endpoint("one", &receiver) };
    let mut bench = Bench::on(redis, vec![no_retries]).await;
    let rooms = ["a", "b", "c"];
    bench.publish_all(&rooms, 60).await;
    let _worker = bench.worker();
    for broken_at in [20, 90] {
        wait_until("some were accepted", async || receiver.accepted().len() >= broken_at).await;
        redis.kill9();
        redis.start_again().await;
    }
    all_accepted(&receiver, &rooms, 60).await;
    assert!(bench.dead("one").await.is_empty());
}

#[tokio::test]
async fn a_second_worker_takes_its_share_in_order() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Late(Duration::from_millis(5)));
    let mut bench = Bench::new(vec![endpoint("one", &receiver)]).await;
    let rooms = ["a", "b", "c", "d"];
    bench.publish_all(&rooms, 60).await;
    let _one = bench.worker();
    wait_until("some were accepted", async || receiver.accepted().len() >= 20).await;
    let _two = bench.worker();
    let owners = async || {
        let mut owners = BTreeSet::new();
        for p in bench.partitions.all() {
            let lease = bench.redis.command(["GET", &bench.door.keys().lease("callback:one", p)]).await;
            // A lease is `<token> <worker>`; between two owners there is none.
            if let Reply::Bytes(lease) = lease {
                owners.insert(String::from_utf8(lease).unwrap().split_once(' ').unwrap().1.to_owned());
            }
        }
        owners.len()
    };
    wait_until("each has a partition", async || owners().await == 2).await;
    bench.publish_all(&rooms, 20).await;
    all_accepted(&receiver, &rooms, 80).await;
    assert_eq!(receiver.seen().len(), 320, "handing over repeated something");
}

#[tokio::test]
async fn wrong_settings_end_the_worker_before_it_begins() {
    let receiver = Receiver::start().await;
    let bench = Bench::new(vec![EndpointSettings { url: "gopher://x".into(), ..endpoint("one", &receiver) }]).await;
    let mut worker = bench.worker();
    let error = (&mut worker.task).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), millstream::error::Kind::Config);
    assert!(error.to_string().contains("callback.endpoints[0].url"), "{error}");
}
