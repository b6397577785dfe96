//! One partition with a log and an archive that a test fills, trims, wipes and restores at will.

use millstream::config::{DatabaseSettings, RedisSettings, ReplaySettings, Secret, Span};
use millstream::history::History;
use millstream::model::{
    Answer, Ask, Cursor, Entry, EntryId, EntryKind, Event, Item, Message, Page, PartitionId, Partitions, ResetReason,
    Resume, Room, SenderType, Since,
};
use millstream::store::{Batch, Ownership, Store};
use millstream::stream::{Arg, Redis};

use super::support;

/// The only partition.
pub(crate) const P: PartitionId = PartitionId(0);

/// As the publish script: number, entry, end of the room. ARGV: room, kind, envelope, how many, ms or `*`.
const ADD: &str = "
local id
for i = 1, tonumber(ARGV[4]) do
  local seq = redis.call('HINCRBY', KEYS[2], ARGV[1], ARGV[2] == 'm' and 1 or 0)
  id = redis.call('XADD', KEYS[1], ARGV[5], 'r', ARGV[1], 's', seq, 'k', ARGV[2], 'e', ARGV[3])
end
redis.call('HSET', KEYS[3], ARGV[1], id)
return {id, redis.call('HGET', KEYS[2], ARGV[1])}";

/// How a join begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    pub(crate) resume: Resume,
    pub(crate) reason: Option<ResetReason>,
    pub(crate) since: Cursor,
    pub(crate) head: Cursor,
    pub(crate) page: Page,
}

pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) store: Store,
    pub(crate) pool: sqlx::PgPool,
    pub(crate) settings: ReplaySettings,
    owner: Ownership,
    postgres: Option<support::Postgres>,
}

impl World {
    /// On the servers that the tests share.
    pub(crate) async fn new() -> Self {
        let database = support::Postgres::shared().await.database().await;
        Self::on(&support::Redis::shared().await.url(), database, None).await
    }

    /// With a Postgres of its own, which may be stopped.
    pub(crate) async fn with_own_postgres() -> Self {
        let postgres = support::Postgres::start().await;
        let database = postgres.database().await;
        Self::on(&support::Redis::shared().await.url(), database, Some(postgres)).await
    }

    /// With a Redis of its own, whose calls can be counted.
    pub(crate) async fn with_redis(url: &str) -> Self {
        Self::on(url, support::Postgres::shared().await.database().await, None).await
    }

    async fn on(url: &str, database: support::Database, postgres: Option<support::Postgres>) -> Self {
        let redis = RedisSettings { url: Secret::new(url), prefix: support::unique("h"), ..RedisSettings::default() };
        let redis = RedisSettings { command_timeout: Span::secs(10), ..redis };
        let redis = Redis::connect(&redis).await.unwrap();
        let archive = DatabaseSettings {
            url: Secret::new(database.url.clone()),
            connections_max: 4,
            ..DatabaseSettings::default()
        };
        let store = Store::connect(&archive).unwrap();
        store.migrate().await.unwrap();
        let (owner, _) = store.take_over(P).await.unwrap();
        redis.command("SET", vec![redis.keys().epoch(P), "1".into()]).await.unwrap();
        let settings = ReplaySettings::default();
        Self { redis, store, pool: database.pool, settings, owner, postgres }
    }

    pub(crate) fn stop_postgres(&self) {
        self.postgres.as_ref().expect("a Postgres of its own").stop();
    }

    pub(crate) fn history(&self) -> History {
        History::new(self.redis.clone(), self.store.clone(), &self.settings)
    }

    /// Adds messages with the same body; the cursor of the last one.
    pub(crate) async fn messages(&self, room: &str, count: u64) -> Cursor {
        self.messages_of(room, count, "\"hello\"", "*").await
    }

    pub(crate) async fn messages_of(&self, room: &str, count: u64, body: &str, id: &str) -> Cursor {
        let item = Item::Message(Message {
            user: "alice",
            device: "phone",
            cid: "c",
            kind: "text",
            body,
            sender_type: SenderType::User,
            file: None,
        });
        self.add(room, &item, count, id).await
    }

    pub(crate) async fn event(&self, room: &str, event: &str) -> Cursor {
        self.add(room, &Item::Event(Event { event, user: Some("alice"), data: None }), 1, "*").await
    }

    async fn add(&self, room: &str, item: &Item<'_>, count: u64, id: &str) -> Cursor {
        let keys = self.redis.keys();
        let mut args = vec![Arg::from(ADD), Arg::from("3")];
        args.extend([keys.log(P), keys.seq(P), keys.head(P)].map(Arg::from));
        args.extend([Arg::from(room), Arg::from(item.entry_kind().letter()), Arg::from(item.encode())]);
        args.extend([Arg::from(count), Arg::from(id)]);
        let reply = self.redis.command("EVAL", args).await.unwrap().list().unwrap();
        Cursor::new(reply[0].text().unwrap().parse().unwrap(), reply[1].int().unwrap().try_into().unwrap())
    }

    /// The log as it stands.
    pub(crate) async fn log(&self) -> Vec<Entry> {
        let key = self.redis.keys().log(P);
        let raw = self.redis.range(&key, EntryId::ZERO, EntryId::MAX, 1_000_000).await.unwrap();
        raw.into_iter().map(|raw| raw.into_entry().unwrap()).collect()
    }

    /// Archives what the log holds up to an id.
    pub(crate) async fn archive_upto(&self, upto: EntryId) {
        let log = self.log().await;
        let batch = Batch::of(log.iter().filter(|entry| entry.id <= upto)).unwrap();
        self.store.commit_batch(&batch, self.owner, upto).await.unwrap();
    }

    pub(crate) async fn archive_all(&self) {
        let last = self.log().await.last().unwrap().id;
        self.archive_upto(last).await;
    }

    /// Removes the log's entries up to an id.
    pub(crate) async fn trim_upto(&self, id: EntryId) {
        let key = self.redis.keys().log(P);
        self.redis.command("XTRIM", vec![key, "MINID".into(), id.next().to_string()]).await.unwrap();
    }

    pub(crate) async fn delete(&self, id: EntryId) {
        self.redis.command("XDEL", vec![self.redis.keys().log(P), id.to_string()]).await.unwrap();
    }

    /// Removes a room's archived messages up to a seq, as retention does with a month.
    pub(crate) async fn drop_archived(&self, room: &str, upto: u64) {
        let delete = "DELETE FROM messages WHERE room = $1 AND seq <= $2";
        sqlx::query(delete).bind(room).bind(i64::try_from(upto).unwrap()).execute(&self.pool).await.unwrap();
        let delete = "DELETE FROM room_events WHERE room = $1 AND seq < $2";
        sqlx::query(delete).bind(room).bind(i64::try_from(upto).unwrap()).execute(&self.pool).await.unwrap();
    }

    /// Loses everything in Redis, and fills it from the archive as the archive worker does.
    pub(crate) async fn wipe_and_restore(&self) {
        let keys = self.redis.keys();
        let (log, seq, head) = (keys.log(P), keys.seq(P), keys.head(P));
        self.redis.command("DEL", vec![log.clone()]).await.unwrap();
        self.redis.command("DEL", vec![seq.clone()]).await.unwrap();
        self.redis.command("DEL", vec![head.clone()]).await.unwrap();
        let one = Partitions::new(1).unwrap();
        for room in self.store.rooms_of(one, P, None, 1_000).await.unwrap() {
            let (name, at) = (room.room.to_string(), room.head);
            self.redis.command("HSET", vec![seq.clone(), name.clone(), at.seq.to_string()]).await.unwrap();
            self.redis.command("HSET", vec![head.clone(), name, at.id.to_string()]).await.unwrap();
        }
        let group = ["CREATE", &log, "archive", "0", "MKSTREAM"].map(str::to_owned).to_vec();
        self.redis.command("XGROUP", group).await.unwrap();
        let newest = self.store.newest_id(one, P).await.unwrap();
        self.redis.command("XSETID", vec![log, newest.to_string()]).await.unwrap();
    }

    pub(crate) async fn ask(&self, room: &str, ask: Ask) -> Answer {
        let asks = [(Room::new(room).unwrap(), ask)];
        self.history().answer(P, &asks).await.unwrap().remove(0)
    }

    pub(crate) async fn join(&self, room: &str, since: Since) -> Joined {
        match self.ask(room, Ask::Join(since)).await {
            Answer::Joined { resume, reason, since, head, page } => Joined { resume, reason, since, head, page },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn page(&self, room: &str, after: Cursor) -> (Option<(ResetReason, Cursor)>, Page) {
        match self.ask(room, Ask::Page(after)).await {
            Answer::Page { reset, page } => (reset, page),
            other => panic!("{other:?}"),
        }
    }

    /// Everything from `since` on, page by page, as an edge asks for it; no reset may come.
    pub(crate) async fn read_on(&self, room: &str, since: Since) -> Vec<Entry> {
        let Joined { since, mut page, .. } = self.join(room, since).await;
        let mut entries = std::mem::take(&mut page.entries);
        for _ in 0..1_000 {
            if !page.more {
                assert_dense(since, &entries);
                return entries;
            }
            let (reset, next) = self.page(room, page.upto).await;
            assert_eq!(reset, None, "after {}", page.upto);
            assert!(next.upto.id > page.upto.id || !next.more, "a page must lead on");
            page = next;
            entries.append(&mut page.entries);
        }
        panic!("the pages of {room} do not end");
    }
}

/// Promise 2: numbers go up by one, ids grow.
pub(crate) fn assert_dense(since: Cursor, entries: &[Entry]) {
    let mut at = since;
    for entry in entries {
        assert!(entry.id > at.id, "{} after {at}", entry.id);
        let before = if entry.kind == EntryKind::Message { entry.seq - 1 } else { entry.seq };
        assert_eq!(before, at.seq, "before {}", entry.id);
        at = entry.cursor();
    }
}

/// `m4` for message 4, `e4` for an event after it.
pub(crate) fn short(entries: &[Entry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{}{}", entry.kind.letter(), entry.seq)).collect()
}
