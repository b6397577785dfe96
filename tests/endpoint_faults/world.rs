//! A log, the callback worker's process, an endpoint that misbehaves and one that doesn't.

use std::collections::BTreeMap;

use millstream::config::{RedisSettings, Secret};
use millstream::model::{DeviceId, Item, Message, Partitions, Room, SenderType, UserId};
use millstream::stream::{self, Generation, Publish};

use crate::certificate::authority_file;
use crate::endpoint::{Attempt, Endpoint, How};
use crate::support::{CALLBACK_SECRET, Callback, Process, Receiver, Redis, free_port, get, unique, wait_until};

/// More than fit into an endpoint's breaker, so that it opens.
pub(crate) const ROOMS: u64 = 16;
/// Messages of each room in a wave.
pub(crate) const EACH: u64 = 2;
/// What the worker's memory may grow by, whatever an endpoint answers.
const GROWTH_KIB: u64 = 64 << 10;
const PARTITIONS: u16 = 2;

/// The worker under way.
pub(crate) struct World {
    redis: &'static Redis,
    pub(crate) door: stream::Redis,
    prefix: String,
    metrics: String,
    more: Vec<(String, String)>,
    worker: Process,
    pub(crate) healthy: Receiver,
    waves: u64,
    began_kib: u64,
}

impl World {
    /// A worker that calls `url` back under the name of `faulty`, and another endpoint; `more` settings
    /// of the faulty one, by their names in capitals.
    pub(crate) async fn start(url: &str, more: &[(&str, &str)]) -> Self {
        let (redis, prefix) = (Redis::shared().await, unique("faults"));
        let settings = RedisSettings {
            url: Secret::new(redis.url()),
            prefix: prefix.clone(),
            partitions: PARTITIONS,
            ..Default::default()
        };
        let door = stream::Redis::connect(&settings).await.unwrap();
        for p in Partitions::new(PARTITIONS).unwrap().all() {
            // As the archive worker does, which is not here.
            redis.command(["SET", &door.keys().epoch(p), "1"]).await;
        }
        let (healthy, metrics) = (Receiver::start().await, format!("127.0.0.1:{}", free_port()));
        let more: Vec<(String, String)> =
            more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let worker = spawn(redis, &prefix, &metrics, &more, url, &healthy.url());
        worker.ready().await;
        let began_kib = peak_kib(&worker);
        Self { redis, door, prefix, metrics, more, worker, healthy, waves: 0, began_kib }
    }

    /// Another worker instead of this one, which stops in order.
    pub(crate) async fn restart(&mut self, url: &str) {
        self.no_panic();
        assert!(self.worker.stop().await.success());
        self.worker = spawn(self.redis, &self.prefix, &self.metrics, &self.more, url, &self.healthy.url());
        self.worker.ready().await;
        self.began_kib = peak_kib(&self.worker);
    }

    /// Publishes [`EACH`] messages into each of the [`ROOMS`]; the healthy endpoint gets all so far, in order.
    pub(crate) async fn publish(&mut self) {
        let partitions = Partitions::new(PARTITIONS).unwrap();
        for room in rooms() {
            for n in 0..EACH {
                let (room, mut mark) = (Room::new(&room).unwrap(), [1; 24]);
                mark[..8].copy_from_slice(&(self.waves * EACH + n).to_be_bytes());
                let body = format!("{{\"n\": {n},  \"as it was written\": \"\\u00e4 ä\"}}");
                let item = Item::Message(Message {
                    user: "alice",
                    device: "phone",
                    cid: "c",
                    kind: "text",
                    body: &body,
                    sender_type: SenderType::User,
                    file: None,
                });
                let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new(room.as_str()).unwrap());
                let p = partitions.of(room.as_str());
                let (generation, envelope) = (Generation::default(), item.encode().into());
                let message = Publish { room, user, device, mark, generation, envelope };
                self.door.publish(p, &[&message], 60_000, &[]).await.unwrap();
            }
        }
        self.waves += 1;
        let each = self.waves * EACH;
        wait_until("the healthy endpoint has everything", async || {
            self.healthy.accepted().len() as u64 == ROOMS * each
        })
        .await;
        let attempt = |c: Callback| Attempt {
            id: c.id().to_owned(),
            body: String::from_utf8(c.body.clone()).unwrap(),
            well: true,
        };
        in_order(self.healthy.accepted().into_iter().map(attempt), each);
    }

    /// Attempts at the faulty endpoint by the worker's own count; of all outcomes, or of one.
    pub(crate) async fn counted(&self, outcome: Option<&str>) -> u64 {
        let (_, text) = get(&self.metrics, "/metrics", &[]).await;
        let lines = text.lines().filter(|line| line.starts_with("millstream_callback_attempts_total{"));
        let ours = lines.filter(|line| {
            line.contains("endpoint=\"faulty\"")
                && outcome.is_none_or(|outcome| line.contains(&format!("outcome=\"{outcome}\"")))
        });
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
    }

    /// Waits until so many attempts ended like this.
    pub(crate) async fn fails(&self, outcome: &str, attempts: u64) {
        let what = format!("{attempts} attempts end as {outcome}");
        wait_until(&what, async || self.counted(Some(outcome)).await >= attempts).await;
    }

    /// The endpoint is mended: of its `attempts` everything arrives, in order per room, each attempt at an item with
    /// the same id and the same bytes; every attempt was counted, none was the last, memory stayed bounded.
    pub(crate) async fn audit(&self, attempts: impl Fn() -> Vec<Attempt>) {
        let each = self.waves * EACH;
        wait_until("the mended endpoint has everything", async || {
            in_first_place(attempts()).len() as u64 >= ROOMS * each
        })
        .await;
        in_order(in_first_place(attempts()).into_iter(), each);
        let mut bodies: BTreeMap<String, String> = BTreeMap::new();
        let mut ids: BTreeMap<(String, u64), String> = BTreeMap::new();
        for attempt in attempts() {
            let (id, what) = (attempt.id.clone(), attempt.what());
            assert_eq!(*bodies.entry(id.clone()).or_insert(attempt.body.clone()), attempt.body, "the body of {id}");
            assert_eq!(*ids.entry(what.clone()).or_insert(id.clone()), id, "the id of {what:?}");
        }
        self.unharmed().await;
    }

    /// Nothing was given up, nobody panicked, and memory stayed bounded.
    pub(crate) async fn unharmed(&self) {
        for endpoint in ["faulty", "healthy"] {
            let key = format!("{}:dead:callback:{endpoint}", self.prefix);
            assert_eq!(self.redis.command(["XLEN", &key]).await.int(), 0, "dead letters of {endpoint}");
        }
        self.no_panic();
        assert_eq!(self.worker.try_status(), None, "the worker ended");
        let peak = peak_kib(&self.worker);
        assert!(peak <= self.began_kib + GROWTH_KIB, "the worker grew from {} to {peak} KiB", self.began_kib);
    }

    fn no_panic(&self) {
        let err = self.worker.stderr();
        assert!(!err.contains("panicked at"), "{err}");
    }
}

/// An endpoint misbehaves for a while, and the worker calls that `outcome`.
pub(crate) async fn holds(how: How, outcome: &str) {
    holds_all([how], outcome).await;
}

/// As [`holds`], in several ways, one after the other.
pub(crate) async fn holds_all<const N: usize>(hows: [How; N], outcome: &str) {
    let [first, others @ ..] = &hows[..] else { panic!("no way to misbehave") };
    let endpoint = Endpoint::start(first.clone()).await;
    let mut world = World::start(&endpoint.url(), &[]).await;
    world.publish().await;
    world.fails(outcome, 2).await;
    for how in others {
        let before = endpoint.attempts().len();
        endpoint.break_again(how.clone());
        wait_until("two more attempts came", async || endpoint.attempts().len() >= before + 2).await;
        world.fails(outcome, endpoint.attempts().len() as u64).await;
    }
    world.publish().await;
    assert!(endpoint.attempts().iter().all(|attempt| !attempt.well));
    assert_eq!(world.counted(Some("accepted")).await, 0);
    endpoint.mend();
    world.audit(|| endpoint.attempts()).await;
    let seen = endpoint.attempts().len() as u64;
    wait_until("every attempt is counted", async || world.counted(None).await >= seen).await;
}

/// The items in the order in which each was first accepted.
fn in_first_place(attempts: Vec<Attempt>) -> Vec<Attempt> {
    let mut ids = std::collections::HashSet::new();
    attempts.into_iter().filter(|attempt| attempt.well && ids.insert(attempt.id.clone())).collect()
}

/// Each room has its messages from 1 to `each`, in order.
fn in_order(accepted: impl Iterator<Item = Attempt>, each: u64) {
    let mut by_room: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for attempt in accepted {
        let (room, seq) = attempt.what();
        by_room.entry(room).or_default().push(seq);
    }
    for room in rooms() {
        assert!(by_room[&room].iter().copied().eq(1..=each), "{room}: {:?}", by_room[&room]);
    }
}

fn rooms() -> impl Iterator<Item = String> {
    (0..ROOMS).map(|n| format!("room{n}"))
}

fn spawn(
    redis: &Redis,
    prefix: &str,
    metrics: &str,
    more: &[(String, String)],
    faulty: &str,
    healthy: &str,
) -> Process {
    let endpoint = |n: u8, key: &str| format!("MILLSTREAM__CALLBACK__ENDPOINTS__{n}__{key}");
    let mut env: Vec<(String, String)> = [
        ("REDIS_URL", redis.url()),
        ("MILLSTREAM__REDIS__PREFIX", prefix.to_owned()),
        ("MILLSTREAM__REDIS__PARTITIONS", PARTITIONS.to_string()),
        ("MILLSTREAM__METRICS__LISTEN", metrics.to_owned()),
        ("SSL_CERT_FILE", authority_file().to_str().unwrap().to_owned()),
        ("MILLSTREAM__CALLBACK__ALLOW_PRIVATE", "true".into()),
        // Nothing is to be given up, and what waits is to be tried again soon.
        ("MILLSTREAM__CALLBACK__MAX_RETRIES", "10000".into()),
        ("MILLSTREAM__CALLBACK__RETRY_DELAY", "100ms".into()),
        ("MILLSTREAM__CALLBACK__RETRY_DELAY_MAX", "500ms".into()),
        ("MILLSTREAM__GROUP__LEASE_TTL", "2s".into()),
        ("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms".into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    for (n, name, url) in [(0, "faulty", faulty), (1, "healthy", healthy)] {
        env.push((endpoint(n, "NAME"), name.into()));
        env.push((endpoint(n, "URL"), url.into()));
        env.push((endpoint(n, "SECRETS"), CALLBACK_SECRET.into()));
        // Not `room_created`, which comes with the first message of a room.
        env.push((endpoint(n, "KINDS"), "message".into()));
    }
    env.push((endpoint(0, "TIMEOUT"), "1s".into()));
    env.extend(more.iter().map(|(key, value)| (endpoint(0, key), value.clone())));
    Process::spawn("callback", &[], &env)
}

/// The most memory that a process had so far; nothing where the system doesn't say so.
fn peak_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
