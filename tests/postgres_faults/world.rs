//! The whole system with traffic, and what has to hold while Postgres is broken and afterwards.

use millstream::model::{EntryId, PartitionId, Partitions};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::support::{Client, Reading, Reply, Stack, StackBuilder, Traffic, get, readers, wait_until};

/// Messages that have to be accepted before, during and after a fault.
const STRETCH: u64 = 40;
/// As in `Stack`.
const PARTITIONS: u16 = 4;

/// The system under way.
pub(crate) struct World {
    pub(crate) stack: Stack,
    traffic: Traffic,
    readers: Vec<Reading>,
    witness: Client,
}

/// Short leases and waits: what takes a minute in production takes seconds here.
pub(crate) fn builder() -> StackBuilder {
    Stack::builder()
        .env("MILLSTREAM__GROUP__LEASE_TTL", "2s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__ARCHIVE__MAX_DELAY", "100ms")
        .env("MILLSTREAM__DATABASE__CONNECT_TIMEOUT", "1s")
        .env("MILLSTREAM__DATABASE__STATEMENT_TIMEOUT", "2s")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
}

/// A stack whose archive worker comes to the database by another way.
pub(crate) async fn with_archive_at(builder: StackBuilder, url: impl AsyncFnOnce(&Stack) -> String) -> Stack {
    let mut stack = builder.workers(&["replay"]).start().await;
    let url = url(&stack).await;
    stack.add("archive", "archive", &[("DATABASE_URL", &url)]);
    stack.process("archive").ready().await;
    stack
}

/// Runs statements of the test's own.
pub(crate) async fn sql(stack: &Stack, statements: &str) {
    let done = sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(&stack.database.pool).await;
    done.unwrap_or_else(|e| panic!("{statements}: {e}"));
}

/// The only number that a query gives.
pub(crate) async fn number(stack: &Stack, query: &str) -> i64 {
    let number = sqlx::query_scalar(AssertSqlSafe(query.to_owned())).fetch_one(&stack.database.pool).await;
    number.unwrap_or_else(|e| panic!("{query}: {e}"))
}

/// Cuts our processes' sessions: new ones take over what has been changed for the database.
pub(crate) async fn cut_sessions(stack: &Stack) {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'millstream'";
    assert!(number(stack, cut).await > 0, "there were sessions to cut");
}

impl World {
    /// Begins to write and to read, until the first messages are archived.
    pub(crate) async fn start(stack: Stack) -> Self {
        let traffic = Traffic::start(&stack, &["edge"]);
        let readers = readers(&stack, &["edge"]);
        let mut witness = stack.client("witness", "d").await;
        witness.join("r1", json!("start")).await;
        stack.archived_when("r1", 1).await;
        Self { stack, traffic, readers, witness }
    }

    /// Sends are accepted, who listens hears them, and who comes now gets the room from its start.
    pub(crate) async fn goes_on(&mut self) {
        self.traffic.goes_on(STRETCH).await;
        let newest = self.stack.logged("r1").await.last().unwrap().0;
        self.witness.delivered_up_to("r1", newest + 1).await;
        let mut late = self.stack.client("late", "d").await;
        late.join("r1", json!("start")).await;
        late.delivered_up_to("r1", newest).await;
        assert_eq!(late.account("r1").iter().find(|e| e["type"] == "message").unwrap()["seq"], 1);
        late.close().await;
    }

    /// Waits until a process has logged this.
    pub(crate) async fn logs(&self, process: &str, text: &str) {
        let what = format!("{process} says {text:?}");
        wait_until(&what, async || self.stack.process(process).stderr().contains(text)).await;
    }

    /// Waits until the archive worker says at `/readyz` that it isn't ready, and why.
    pub(crate) async fn unready(&self, why: &str) {
        let addr = self.stack.metrics_addr("archive");
        wait_until(&format!("the archive says {why:?} at /readyz"), async || {
            let (status, text) = get(addr, "/readyz", &[]).await;
            status == 503 && text.contains(why)
        })
        .await;
    }

    /// After mending: everything that was accepted is in the log, in the archive and with every
    /// reader, once; the checkpoints are at the ends of the logs; nothing was parked, nobody panicked,
    /// and the archive is ready.
    pub(crate) async fn audit(self) {
        let Self { stack, traffic, readers, witness: _witness } = self;
        traffic.goes_on(STRETCH).await;
        traffic.audit(&stack, readers, None).await;
        checkpoints_are_right(&stack).await;
        assert_eq!(dead_letters(&stack).await, [], "nothing is to be parked");
        let addr = stack.metrics_addr("archive");
        wait_until("the archive is ready again", async || get(addr, "/readyz", &[]).await.0 == 200).await;
    }
}

/// Waits until each checkpoint is where its log ended just now; it is never beyond its end.
pub(crate) async fn checkpoints_are_right(stack: &Stack) {
    for p in Partitions::new(PARTITIONS).unwrap().all() {
        let end = end_of_log(stack, p).await;
        wait_until(&format!("the checkpoint of partition {p} is at {end}"), async || checkpoint(stack, p).await >= end)
            .await;
        let checkpoint = checkpoint(stack, p).await;
        assert!(checkpoint <= end_of_log(stack, p).await, "partition {p}: {checkpoint} is beyond the log");
    }
}

async fn end_of_log(stack: &Stack, p: PartitionId) -> EntryId {
    let log = format!("{}:{{{p}}}:log", stack.prefix);
    let newest = stack.redis().command(["XREVRANGE", &log, "+", "-", "COUNT", "1"]).await.list();
    newest.into_iter().next().map(|entry| entry.list()[0].text().parse().unwrap()).unwrap_or_default()
}

async fn checkpoint(stack: &Stack, p: PartitionId) -> EntryId {
    let query = "SELECT ms, n FROM checkpoints WHERE \"group\" = 'archive' AND partition = $1";
    let found = sqlx::query_as(query).bind(i32::from(p.0)).fetch_one(&stack.database.pool);
    let (ms, n): (i64, i64) = found.await.unwrap();
    EntryId::new(ms.unsigned_abs(), n.unsigned_abs())
}

/// The dead letters of the archive: original id, and the reason with Postgres' words.
pub(crate) async fn dead_letters(stack: &Stack) -> Vec<(String, String)> {
    let key = format!("{}:dead:archive", stack.prefix);
    let letters = stack.redis().command(["XRANGE", &key, "-", "+"]).await.list();
    let letter = |entry: Reply| {
        let fields = entry.list().remove(1).list();
        let field = |name: &str| fields.chunks(2).find(|pair| pair[0].text() == name).unwrap()[1].text();
        (field("original"), format!("{}: {}", field("reason"), field("error")))
    };
    letters.into_iter().map(letter).collect()
}
