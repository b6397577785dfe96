//! The archive worker as a whole: leases, reading, writing, acknowledging, and an emptied Redis.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod support;

use std::time::Duration;

use millstream::archive::{self, flush};
use millstream::config::{DatabaseSettings, RedisSettings, Secret, Settings, Span};
use millstream::model::{EntryKind, Item, Message, Partitions, Room, SenderType};
use millstream::shutdown::Shutdown;
use millstream::store::{ARCHIVE, Store};
use millstream::stream::{Arg, Redis};
use millstream::telemetry::Readiness;
use tokio::task::JoinHandle;

use support::{Database, Postgres, wait_until, wait_until_eq};

struct World {
    settings: Settings,
    redis: Redis,
    store: Store,
    database: Database,
    servers: support::Redis,
}

struct Worker {
    shutdown: Shutdown,
    readiness: Readiness,
    task: JoinHandle<millstream::Result<()>>,
}

fn partitions() -> Partitions {
    Partitions::new(4).unwrap()
}

impl World {
    async fn new() -> Self {
        let servers = support::Redis::start(&[]).await;
        let database = Postgres::shared().await.database().await;
        let mut settings = Settings {
            redis: RedisSettings { url: Secret::new(servers.url()), partitions: 4, ..Default::default() },
            database: DatabaseSettings { url: Secret::new(&database.url), ..Default::default() },
            ..Default::default()
        };
        settings.archive.max_delay = Span::millis(100);
        settings.group.lease_ttl = Span::secs(1);
        settings.group.lease_interval = Span::millis(200);
        let redis = Redis::connect(&settings.redis).await.unwrap();
        let store = Store::connect(&settings.database).unwrap();
        Self { settings, redis, store, database, servers }
    }

    fn worker(&self) -> Worker {
        let (shutdown, readiness) = (Shutdown::new(), Readiness::default());
        let (settings, redis, store) = (self.settings.clone(), self.redis.clone(), self.store.clone());
        let (stop, ready) = (shutdown.clone(), readiness.clone());
        let task = tokio::spawn(async move { archive::run(&settings, redis, store, partitions(), stop, &ready).await });
        Worker { shutdown, readiness, task }
    }

    async fn initialised(&self) {
        for p in partitions().all() {
            wait_until("the partition is initialised", || async { self.redis.epoch(p).await.unwrap().is_some() }).await;
        }
    }

    /// The next number of a room, and its message in the log, as the publish script would.
    async fn publish(&self, room: &str) {
        let p = partitions().of(room);
        let item = Item::Message(Message {
            user: "alice",
            device: "phone",
            cid: "c",
            kind: "text",
            body: "1",
            sender_type: SenderType::User,
            file: None,
        });
        let keys = self.redis.keys();
        let seq = self.redis.command("HINCRBY", vec![keys.seq(p), room.into(), "1".into()]).await.unwrap();
        let mut args = vec![Arg::from(keys.log(p)), "*".into(), "r".into(), room.into(), "s".into()];
        args.extend([seq.int().unwrap().to_string().into(), "k".into(), EntryKind::Message.letter().into()]);
        args.extend(["e".into(), item.encode().into()]);
        self.redis.command("XADD", args).await.unwrap();
    }

    async fn publish_all(&self, messages: usize) {
        for i in 0..messages {
            self.publish(&format!("room{}", i % 7)).await;
        }
    }

    async fn rows(&self) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM messages").fetch_one(&self.database.pool).await.unwrap()
    }

    /// Rooms whose numbers have a hole or come twice.
    async fn rooms_with_holes(&self) -> i64 {
        let query = "SELECT count(*) FROM (SELECT room FROM messages GROUP BY room \
                     HAVING max(seq) <> count(*) OR count(DISTINCT seq) <> count(*)) AS holes";
        sqlx::query_scalar(query).fetch_one(&self.database.pool).await.unwrap()
    }

    async fn entries(&self) -> u64 {
        let mut entries = 0;
        for p in partitions().all() {
            entries += self.redis.length(&self.redis.keys().log(p)).await.unwrap();
        }
        entries
    }

    async fn pending(&self) -> u64 {
        let mut pending = 0;
        for p in partitions().all() {
            pending += self.redis.pending(&self.redis.keys().log(p), ARCHIVE).await.unwrap().count;
        }
        pending
    }
}

#[tokio::test]
async fn what_is_published_is_archived_once_over_kills_and_hand_overs() {
    let world = World::new().await;
    let first = world.worker();
    world.initialised().await;
    first.readiness.ready().await;
    world.publish_all(100).await;
    let second = world.worker();
    world.publish_all(100).await;
    // As `kill -9`: nothing is given back.
    first.task.abort();
    world.publish_all(100).await;
    flush(&world.redis, &world.store, partitions(), None, Duration::from_secs(30)).await.unwrap();
    assert_eq!((world.rows().await, world.rooms_with_holes().await), (300, 0));
    wait_until_eq("everything is acknowledged", 0, || world.pending()).await;
    second.shutdown.request();
    second.task.await.unwrap().unwrap();
}

/// Redis is emptied under a running worker: it is filled again, and numbers go on.
#[tokio::test]
async fn a_wiped_redis_is_filled_again_by_the_running_worker() {
    let world = World::new().await;
    let worker = world.worker();
    world.initialised().await;
    world.publish_all(70).await;
    flush(&world.redis, &world.store, partitions(), None, Duration::from_secs(30)).await.unwrap();
    world.servers.command(["FLUSHALL"]).await;
    world.initialised().await;
    world.publish_all(70).await;
    flush(&world.redis, &world.store, partitions(), None, Duration::from_secs(30)).await.unwrap();
    assert_eq!((world.rows().await, world.rooms_with_holes().await), (140, 0));
    let head = world.store.room_head(&Room::new("room0").unwrap()).await.unwrap().unwrap();
    assert_eq!(head.seq, 20);
    worker.shutdown.request();
    worker.task.await.unwrap().unwrap();
}

/// Somebody removed a key that says that a partition is initialised.
#[tokio::test]
async fn a_partition_without_its_epoch_is_initialised_again() {
    let world = World::new().await;
    let _worker = world.worker();
    world.initialised().await;
    for p in partitions().all() {
        world.redis.command("DEL", vec![world.redis.keys().epoch(p)]).await.unwrap();
    }
    world.initialised().await;
}

/// The log lets go of what everybody has.
#[tokio::test]
async fn the_log_is_trimmed_up_to_what_is_archived() {
    let mut world = World::new().await;
    world.settings.retention.min_age = Span::millis(1);
    world.settings.retention.interval = Span::millis(200);
    let worker = world.worker();
    world.initialised().await;
    world.publish_all(70).await;
    flush(&world.redis, &world.store, partitions(), None, Duration::from_secs(30)).await.unwrap();
    // The newest entry of each of the four partitions stays: it says how far the log is.
    wait_until("the logs are trimmed", || async { world.entries().await <= 4 }).await;
    assert_eq!((world.rows().await, world.rooms_with_holes().await), (70, 0));
    worker.shutdown.request();
    worker.task.await.unwrap().unwrap();
}

#[tokio::test]
async fn stopping_writes_what_is_held() {
    let mut world = World::new().await;
    world.settings.archive.max_delay = Span::secs(3_600);
    let worker = world.worker();
    world.initialised().await;
    world.publish_all(30).await;
    wait_until("the entries are read", || async { world.pending().await == 30 }).await;
    worker.shutdown.request();
    worker.task.await.unwrap().unwrap();
    assert_eq!(world.rows().await, 30);
    assert_eq!(world.pending().await, 0);
}
