//! A transaction that dies in its COMMIT, before or after it took effect, and ones that have to be repeated.

use crate::support::{Mode, Proxy, Stack, wait_until};
use crate::world::{World, builder, cut_sessions, number, sql, with_archive_at};

/// The key of the advisory lock that holds commits.
const KEY: i64 = 4_242;
/// Backends that stand in the COMMIT of a batch.
const HELD: &str = "SELECT count(*) FROM pg_stat_activity \
                    WHERE datname = current_database() AND query = 'COMMIT' AND wait_event = 'advisory'";

/// From now on a transaction that moves the archive's checkpoint waits in its COMMIT while the lock is held.
async fn hold_commits(stack: &Stack) -> sqlx::pool::PoolConnection<sqlx::Postgres> {
    sql(
        stack,
        &format!(
            "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN PERFORM pg_advisory_xact_lock_shared({KEY}); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER hold AFTER UPDATE ON checkpoints DEFERRABLE INITIALLY DEFERRED
               FOR EACH ROW WHEN (NEW.\"group\" = 'archive' AND OLD.token = NEW.token) EXECUTE FUNCTION hold()"
        ),
    )
    .await;
    let mut holder = stack.database.pool.acquire().await.unwrap();
    sqlx::query("SELECT pg_advisory_lock($1)").bind(KEY).execute(&mut *holder).await.unwrap();
    wait_until("a batch stands in its COMMIT", async || number(stack, HELD).await > 0).await;
    holder
}

async fn release(holder: &mut sqlx::pool::PoolConnection<sqlx::Postgres>) {
    sqlx::query("SELECT pg_advisory_unlock($1)").bind(KEY).execute(&mut **holder).await.unwrap();
}

/// The backend dies in COMMIT before it takes effect: the batch is not there, and is written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_killed_before_its_commit_took_effect_loses_nothing() {
    let mut world = World::start(builder().start().await).await;
    let mut holder = hold_commits(&world.stack).await;
    for _ in 0..2 {
        wait_until("a batch stands in its COMMIT", async || number(&world.stack, HELD).await > 0).await;
        cut_sessions(&world.stack).await;
    }
    world.logs("archive", "could not write partition").await;
    world.goes_on().await;
    release(&mut holder).await;
    world.audit().await;
}

/// COMMIT takes effect and its answer is lost: the repeated batch finds its rows there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_doubles_nothing() {
    let mut proxy = None;
    let stack = with_archive_at(builder(), async |stack| {
        let to = stack.postgres().addr();
        let on_the_way = proxy.insert(Proxy::start(to.clone()).await);
        stack.database.url.replace(&to, on_the_way.addr())
    })
    .await;
    let proxy = proxy.unwrap();
    let mut world = World::start(stack).await;
    let mut holder = hold_commits(&world.stack).await;
    proxy.set(Mode::DropReplies);
    let rows = "SELECT count(*) FROM messages";
    let before = number(&world.stack, rows).await;
    release(&mut holder).await;
    wait_until("the COMMIT takes effect", async || number(&world.stack, rows).await > before).await;
    world.goes_on().await;
    proxy.set(Mode::Pass);
    wait_until("the batch is written again", async || {
        world.stack.metric("archive", "millstream_archive_duplicates_total").await > 0.0
    })
    .await;
    world.audit().await;
}

/// SQLSTATE 40001 and a real deadlock (40P01): Postgres undid the transaction and wants it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_postgres_undid_is_repeated() {
    // The deadlock is looked for after a second; a statement must not be given up before.
    let stack = builder().env("MILLSTREAM__DATABASE__STATEMENT_TIMEOUT", "20s").start().await;
    let mut world = World::start(stack).await;
    sql(
        &world.stack,
        "CREATE FUNCTION undo() RETURNS trigger LANGUAGE plpgsql AS
           $$ BEGIN RAISE EXCEPTION 'undone' USING ERRCODE = '40001'; END $$;
         CREATE TRIGGER undo BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION undo()",
    )
    .await;
    world.logs("archive", "undone").await;
    world.goes_on().await;
    sql(&world.stack, "DROP TRIGGER undo ON messages").await;
    // A batch locks its checkpoint first and its rooms last; we do it the other way round. Who of the two
    // is undone is for Postgres to say.
    wait_until("a batch is undone because of a deadlock", async || {
        let mut ours = world.stack.database.pool.begin().await.unwrap();
        sqlx::query("UPDATE rooms SET seq = seq").execute(&mut *ours).await.unwrap();
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'millstream' AND wait_event_type = 'Lock'";
        wait_until("a batch waits for a room", async || number(&world.stack, waiting).await > 0).await;
        let _ = sqlx::query("UPDATE checkpoints SET n = n WHERE \"group\" = 'archive'").execute(&mut *ours).await;
        drop(ours);
        world.stack.process("archive").stderr().contains("deadlock detected")
    })
    .await;
    world.audit().await;
}
