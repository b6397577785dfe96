//! The archive's handler against real servers: what it writes, what it waits for, what it gives up,
//! and how an emptied Redis or Postgres is filled again.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use millstream::archive::{ArchiveGroup, ArchiveHandler, flush};
use millstream::config::{DatabaseSettings, RedisSettings, Secret, Settings, Span};
use millstream::group::{Delivery, Group as _, Handler as _, Lease, Settled, Settler};
use millstream::model::{EntryId, EntryKind, Event, Item, Message, PartitionId, Partitions, Room, SenderType};
use millstream::store::{ARCHIVE, Store};
use millstream::stream::{Arg, Owed, Redis};
use tokio::sync::{mpsc, watch};

use support::{Database, Mode, Postgres, Proxy, eventually, unique, wait_until};

type Outcomes = mpsc::UnboundedReceiver<(Delivery, Settled)>;

/// One partition's archive worker, its servers, and what it says of its entries.
struct World {
    settings: Settings,
    redis: Redis,
    store: Store,
    database: Database,
    partition: PartitionId,
    room: Room,
}

/// The right to work, the handler, and its outcomes.
struct Worker {
    held: watch::Sender<bool>,
    handler: ArchiveHandler,
    outcomes: Outcomes,
}

impl World {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let postgres = Postgres::shared().await;
        let database = postgres.database().await;
        Self::on(database, change).await
    }

    async fn on(database: Database, change: impl FnOnce(&mut Settings)) -> Self {
        let servers = support::Redis::shared().await;
        let mut settings = Settings {
            redis: RedisSettings { url: Secret::new(servers.url()), prefix: unique("mill"), ..Default::default() },
            database: DatabaseSettings { url: Secret::new(&database.url), ..Default::default() },
            ..Default::default()
        };
        settings.archive.max_delay = Span::secs(3_600);
        change(&mut settings);
        let redis = Redis::connect(&settings.redis).await.unwrap();
        let store = Store::connect(&settings.database).unwrap();
        store.migrate().await.unwrap();
        let room = Room::new("orders").unwrap();
        let partition = Partitions::new(16).unwrap().of(&room);
        Self { settings, redis, store, database, partition, room }
    }

    async fn open(&self) -> Worker {
        let group =
            ArchiveGroup::new(&self.settings, self.redis.clone(), self.store.clone(), Partitions::new(16).unwrap());
        let (lease, held) = Lease::new(self.partition, 1);
        let (settler, outcomes) = Settler::channel();
        let handler = Arc::new(group).open(lease, settler).await.unwrap();
        Worker { held, handler, outcomes }
    }

    /// Puts a message into the log, as the publish script would.
    async fn publish(&self, seq: u64, body: &str) -> Delivery {
        let item = Item::Message(Message {
            user: "alice",
            device: "phone",
            cid: "c",
            kind: "text",
            body,
            sender_type: SenderType::User,
            file: None,
        });
        self.append(seq, EntryKind::Message, &item).await
    }

    async fn append(&self, seq: u64, kind: EntryKind, item: &Item<'_>) -> Delivery {
        let log = self.redis.keys().log(self.partition);
        let mut args = vec![Arg::from(log.as_str()), "*".into(), "r".into(), self.room.as_str().into(), "s".into()];
        args.extend([seq.to_string().into(), "k".into(), kind.letter().into(), "e".into(), item.encode().into()]);
        let id: EntryId = self.redis.command("XADD", args).await.unwrap().text().unwrap().parse().unwrap();
        let raw = self.redis.range(&log, id, id, 1).await.unwrap().remove(0);
        Delivery { id, raw, deliveries: 1, replay_of: None }
    }

    async fn count(&self, table: &str) -> i64 {
        let query = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&self.database.pool).await.unwrap()
    }

    async fn archived(&self) -> EntryId {
        self.store.archived(self.partition).await.unwrap()
    }
}

impl Worker {
    async fn settled(&mut self, count: usize) -> Vec<Settled> {
        let mut settled = Vec::new();
        while settled.len() < count {
            let next = tokio::time::timeout(support::DEADLINE, self.outcomes.recv()).await;
            settled.push(next.expect("an outcome comes").expect("the worker lives").1);
        }
        settled
    }
}

#[tokio::test]
async fn a_batch_is_settled_after_its_commit_when_its_rows_are_there() {
    let world = World::new(|settings| settings.archive.max_rows = 2).await;
    let mut worker = world.open().await;
    let (one, two) = (world.publish(1, "1").await, world.publish(2, "2").await);
    let last = two.id;
    worker.handler.handle(vec![one]).await;
    assert!(worker.outcomes.try_recv().is_err(), "one row is no batch");
    worker.handler.handle(vec![two]).await;
    assert_eq!(worker.settled(2).await, [Settled::Done, Settled::Done]);
    assert_eq!((world.count("messages").await, world.archived().await), (2, last));
}

#[tokio::test]
async fn an_old_row_does_not_wait_for_others() {
    let world = World::new(|settings| settings.archive.max_delay = Span::millis(50)).await;
    let mut worker = world.open().await;
    let one = world.publish(1, "1").await;
    worker.handler.handle(vec![one]).await;
    assert_eq!(worker.settled(1).await, [Settled::Done]);
}

#[tokio::test]
async fn closing_writes_what_is_held() {
    let world = World::new(|_| ()).await;
    let mut worker = world.open().await;
    let one = world.publish(1, "1").await;
    worker.handler.handle(vec![one]).await;
    worker.handler.close(Duration::from_secs(10)).await;
    assert_eq!(world.count("messages").await, 1);
}

#[tokio::test]
async fn flush_returns_when_what_was_accepted_before_is_in_postgres() {
    let world = World::new(|_| ()).await;
    let mut worker = world.open().await;
    let (one, two) = (world.publish(1, "1").await, world.publish(2, "2").await);
    worker.handler.handle(vec![one, two]).await;
    let partitions = Partitions::new(16).unwrap();
    let patience = Duration::from_secs(20);
    let flushed = flush(&world.redis, &world.store, partitions, Some(&world.room), patience).await.unwrap();
    assert_eq!((flushed, world.count("messages").await), (1, 2));
    assert_eq!(flush(&world.redis, &world.store, partitions, None, patience).await.unwrap(), 1);
}

/// A value that Postgres refuses must stop neither its batch nor the log.
#[tokio::test]
async fn a_row_that_cannot_be_stored_is_parked_and_the_others_are_written() {
    let world = World::new(|settings| settings.archive.max_rows = 8).await;
    let mut worker = world.open().await;
    let mut batch = Vec::new();
    for seq in 1..=8 {
        let body = if seq == 3 || seq == 8 { r#""\u0000""# } else { "1" };
        batch.push(world.publish(seq, body).await);
    }
    batch[5].raw.fields.clear();
    let last = batch[7].id;
    worker.handler.handle(batch).await;
    let mut parked = Vec::new();
    for settled in worker.settled(8).await {
        if let Settled::Park { reason, .. } = settled {
            parked.push(reason);
        }
    }
    assert_eq!(parked, ["data", "corrupt", "data"]);
    assert_eq!((world.count("messages").await, world.archived().await), (5, last));
}

#[tokio::test]
async fn an_outage_of_postgres_is_waited_out() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let proxy = Proxy::start(postgres.addr()).await;
    let url = database.url.replace(&postgres.addr(), proxy.addr());
    let world = World::on(database, |settings| {
        settings.database.url = Secret::new(url);
        settings.database.connect_timeout = Span::millis(500);
        settings.archive.max_rows = 1;
    })
    .await;
    let mut worker = world.open().await;
    let one = world.publish(1, "1").await;
    proxy.set(Mode::Down);
    worker.handler.handle(vec![one]).await;
    wait_until("an attempt has failed", || async { proxy.connections() > 2 }).await;
    assert!(worker.outcomes.try_recv().is_err(), "nothing is settled meanwhile");
    proxy.set(Mode::Pass);
    assert_eq!(worker.settled(1).await, [Settled::Done]);
    assert_eq!(world.count("messages").await, 1);
}

/// The answer to a commit may be lost although it happened.
#[tokio::test]
async fn an_unclear_commit_is_repeated_and_stored_once() {
    let postgres = Postgres::shared().await;
    let database = postgres.database().await;
    let proxy = Proxy::start(postgres.addr()).await;
    let url = database.url.replace(&postgres.addr(), proxy.addr());
    let world = World::on(database, |settings| {
        settings.database.url = Secret::new(url);
        settings.database.connect_timeout = Span::millis(500);
        settings.archive.max_rows = 1;
    })
    .await;
    let mut worker = world.open().await;
    let one = world.publish(1, "1").await;
    proxy.set(Mode::DropReplies);
    worker.handler.handle(vec![one]).await;
    let before = proxy.request_bytes();
    wait_until("something was sent", || async { proxy.request_bytes() > before }).await;
    proxy.set(Mode::Pass);
    assert_eq!(worker.settled(1).await, [Settled::Done]);
    assert_eq!(world.count("messages").await, 1);
}

/// A zombie: its lease is gone, and another has taken the partition over.
#[tokio::test]
async fn a_worker_without_its_lease_writes_and_settles_nothing() {
    let world = World::new(|settings| settings.archive.max_rows = 1).await;
    let mut zombie = world.open().await;
    let _owner = world.open().await;
    let one = world.publish(1, "1").await;
    zombie.handler.handle(vec![one]).await;
    zombie.held.send(false).unwrap();
    assert!(zombie.outcomes.recv().await.is_none(), "it has ended without settling anything");
    assert_eq!(world.count("messages").await, 0);
}

#[tokio::test]
async fn an_emptied_redis_goes_on_where_the_archive_ended() {
    let world = World::new(|settings| settings.archive.max_rows = 1).await;
    let mut worker = world.open().await;
    let mut last = EntryId::ZERO;
    for seq in 1..=3 {
        let entry = world.publish(seq, "1").await;
        last = entry.id;
        worker.handler.handle(vec![entry]).await;
    }
    let closed = Item::Event(Event { event: "room_closed", user: None, data: None });
    let closed = world.append(3, EntryKind::Event, &closed).await;
    let head = closed.id;
    worker.handler.handle(vec![closed]).await;
    worker.settled(4).await;
    // A callback group had settled the first message only.
    let first = world.store.message_by_seq(&world.room, 1).await.unwrap().unwrap().id;
    let keys = world.redis.keys();
    let behind = vec![keys.checkpoint(world.partition), "callback:a".into(), first.to_string()];
    world.redis.command("HSET", behind).await.unwrap();
    eventually("the checkpoint of the group is kept", || async {
        world.store.checkpoint("callback:a", world.partition).await.unwrap()
    })
    .await;
    worker.handler.close(Duration::from_secs(5)).await;
    for key in [keys.epoch(world.partition), keys.log(world.partition), keys.checkpoint(world.partition)] {
        world.redis.command("DEL", vec![key]).await.unwrap();
    }

    let _worker = world.open().await;
    let p = world.partition;
    assert!(world.redis.epoch(p).await.unwrap().is_some());
    let seq = world.redis.command("HGET", vec![keys.seq(p), world.room.to_string()]).await.unwrap();
    let found = world.redis.command("HGET", vec![keys.head(p), world.room.to_string()]).await.unwrap();
    assert_eq!((seq.text().unwrap(), found.text().unwrap()), ("3", head.to_string().as_str()));
    let closed = world.redis.command("SISMEMBER", vec![keys.closed(p), world.room.to_string()]).await.unwrap();
    assert_eq!(closed.int().unwrap(), 1);
    let archive = world.redis.group(&keys.log(p), ARCHIVE).await.unwrap().unwrap();
    assert_eq!(archive.last_delivered, head);
    assert!(world.publish(4, "1").await.id > head);
    // What the group had not settled comes to it from the archive.
    let redeliver = keys.redeliver(p, "callback:a");
    wait_until("it is delivered", || async { world.redis.length(&redeliver).await.unwrap() == 3 }).await;
    let copies = world.redis.range(&redeliver, EntryId::ZERO, EntryId::MAX, 9).await.unwrap();
    let originals: Vec<&str> = copies.iter().map(|copy| copy.text("i").unwrap()).collect();
    assert_eq!(originals[1..], [last.to_string(), head.to_string()]);
    assert_eq!(world.redis.positions(p).await.unwrap().unwrap().owed, Vec::<(String, Owed)>::new());
}

/// A backup of Postgres that is older than what was settled: the log still holds the rest.
#[tokio::test]
async fn an_emptied_postgres_is_written_again_from_the_log() {
    let world = World::new(|_| ()).await;
    drop(world.open().await);
    let log = world.redis.keys().log(world.partition);
    let (one, two) = (world.publish(1, "1").await, world.publish(2, "2").await);
    world.redis.command("XGROUP", vec!["SETID", log.as_str(), ARCHIVE, &two.id.to_string()]).await.unwrap();
    drop(world.open().await);
    let group = world.redis.group(&log, ARCHIVE).await.unwrap().unwrap();
    assert!(group.last_delivered < one.id, "the group reads from the archive's checkpoint on");
}

/// A replica was promoted without the last writes that were archived already.
#[tokio::test]
async fn a_log_that_lost_its_end_does_not_give_archived_ids_again() {
    let world = World::new(|settings| settings.archive.max_rows = 1).await;
    let mut worker = world.open().await;
    let mut entry = world.publish(7, "1").await;
    entry.id = EntryId::new(entry.id.ms + 3_600_000, 0);
    entry.raw.id = entry.id;
    let archived = entry.id;
    worker.handler.handle(vec![entry]).await;
    worker.settled(1).await;
    drop(worker);
    let _worker = world.open().await;
    assert!(world.publish(8, "1").await.id > archived);
    let seq = world.redis.command("HGET", vec![world.redis.keys().seq(world.partition), "orders".into()]).await;
    assert_eq!(seq.unwrap().int().unwrap(), 7);
}
