//! Postgres is there and refuses: what is accepted waits in the log, nothing is parked, and the archive
//! goes on by itself once the cause is gone.

use std::path::Path;

use crate::support::{Postgres, Stack, unique};
use crate::world::{World, builder, cut_sessions, sql, with_archive_at};

/// Another session locks the table, for longer than a statement may take.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_table_delays_only_the_archive() {
    let mut world = World::start(builder().start().await).await;
    let mut other = world.stack.database.pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE messages IN ACCESS EXCLUSIVE MODE").execute(&mut *other).await.unwrap();
    world.goes_on().await;
    world.logs("archive", "statement timeout").await;
    world.unready("statement timeout").await;
    other.rollback().await.unwrap();
    world.audit().await;
}

/// Cause: a session takes over at its start that it may not write, and the pool kept such sessions
/// for half an hour after the database was writable again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_database_is_waited_for() {
    let mut world = World::start(builder().start().await).await;
    let alter = |what: &str| {
        let database = world.stack.database.url.rsplit('/').next().unwrap().to_owned();
        format!("ALTER DATABASE {database} {what}")
    };
    let (close, open) = (alter("SET default_transaction_read_only = on"), alter("RESET default_transaction_read_only"));
    sql(&world.stack, &close).await;
    cut_sessions(&world.stack).await;
    world.logs("archive", "read-only transaction").await;
    world.unready("read-only transaction").await;
    world.goes_on().await;
    // Nobody cuts the sessions that began in between.
    sql(&world.stack, &open).await;
    world.audit().await;
}

/// Cause: what the pool was told (53300) it kept to itself; `/readyz` spoke of a pool that timed out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_without_a_free_connection_is_waited_for() {
    // Superusers aren't counted, so the archive comes as somebody else.
    let role = unique("archivist");
    let stack = with_archive_at(builder(), async |stack| {
        let database = stack.database.url.rsplit('/').next().unwrap();
        sql(stack, &format!("CREATE ROLE {role} LOGIN; ALTER DATABASE {database} OWNER TO {role}")).await;
        stack.database.url.replace("postgres@", &format!("{role}@"))
    })
    .await;
    let mut world = World::start(stack).await;
    sql(&world.stack, &format!("ALTER ROLE {role} CONNECTION LIMIT 0")).await;
    cut_sessions(&world.stack).await;
    world.unready("has no connection left").await;
    world.goes_on().await;
    sql(&world.stack, &format!("ALTER ROLE {role} CONNECTION LIMIT -1")).await;
    world.audit().await;
}

/// The disk of the tables is full: SQLSTATE 53100.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_leaves_the_backlog_in_the_log() {
    match Postgres::start_with_small_disk().await {
        Ok(postgres) => {
            let mut world = World::start(builder().postgres(postgres).start().await).await;
            let ballast = on_small_disk(&world.stack).await;
            fill(&ballast);
            until_full(&mut world).await;
            std::fs::remove_file(&ballast).unwrap();
            world.audit().await;
        }
        Err(why) => {
            eprintln!(
                "NO REAL DISK IS FILLED: this machine mounts none for us ({why}); Postgres' answer is raised instead"
            );
            let mut world = World::start(builder().start().await).await;
            let raise = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
                           $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device'
                              USING ERRCODE = '53100'; END $$;
                         CREATE TRIGGER full_disk BEFORE INSERT ON messages FOR EACH STATEMENT EXECUTE FUNCTION full_disk()";
            sql(&world.stack, raise).await;
            until_full(&mut world).await;
            sql(&world.stack, "DROP TRIGGER full_disk ON messages").await;
            world.audit().await;
        }
    }
}

/// Has the messages of every month on the small disk; a file of ours beside them.
async fn on_small_disk(stack: &Stack) -> std::path::PathBuf {
    let (theirs, ours) = stack.postgres().small_disk();
    sql(stack, &format!("CREATE TABLESPACE small LOCATION '{}'", theirs.display())).await;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'messages'::regclass")
            .fetch_all(&stack.database.pool)
            .await
            .unwrap();
    for table in tables {
        sql(stack, &format!("ALTER TABLE {table} SET TABLESPACE small")).await;
    }
    ours.join("ballast")
}

/// Writes until there is no room for a page.
fn fill(ballast: &Path) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(ballast).unwrap();
    while file.write_all(&[0; 1 << 10]).is_ok() {}
}

async fn until_full(world: &mut World) {
    world.logs("archive", "No space left on device").await;
    world.unready("No space left on device").await;
    world.goes_on().await;
}

/// A column is gone (42703): no row is to blame, so none is parked, and the operator is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_column_parks_no_row_and_is_said() {
    let mut world = World::start(builder().start().await).await;
    sql(&world.stack, "ALTER TABLE messages DROP COLUMN file_name").await;
    let said = "column \"file_name\" of relation \"messages\" does not exist";
    world.logs("archive", said).await;
    world.unready("file_name").await;
    world.goes_on().await;
    sql(&world.stack, "ALTER TABLE messages ADD COLUMN file_name text").await;
    world.audit().await;
}
