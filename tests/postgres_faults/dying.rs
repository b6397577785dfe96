//! The server dies, freezes, or is gone without a word.

use crate::support::{Postgres, Proxy};
use crate::world::{World, builder, with_archive_at};

/// The postmaster is killed as by the kernel when memory runs out; the next one recovers from the WAL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postmaster_that_is_killed_loses_and_doubles_nothing() {
    let mut world = World::start(builder().postgres(Postgres::start().await).start().await).await;
    for _ in 0..2 {
        world.stack.postgres().kill9();
        world.unready("postgres").await;
        world.goes_on().await;
        world.stack.postgres().start_again().await;
        let archived = world.stack.archived("r1").await.len();
        world.stack.archived_when("r1", archived + 1).await;
    }
    world.audit().await;
}

/// Cause: nothing but Postgres itself bounded how long an answer is waited for, and a frozen one bounds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_postgres_delays_only_the_archive() {
    let mut world = World::start(builder().postgres(Postgres::start().await).start().await).await;
    world.stack.postgres().freeze();
    world.unready("postgres").await;
    world.goes_on().await;
    // Whoever was waiting for an answer has given up, and nobody is greeted.
    world.unready("no connection within database.connect_timeout").await;
    world.goes_on().await;
    world.stack.postgres().thaw();
    world.audit().await;
}

/// Cause: a connection whose other end vanished (a machine that lost its power, a firewall that forgot
/// it) stayed in the pool for ever, and with it whoever waited for its answer; no new one was made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_died_without_a_word_are_replaced() {
    let mut proxy = None;
    let stack = with_archive_at(builder(), async |stack| {
        let to = stack.postgres().addr();
        let on_the_way = proxy.insert(Proxy::start(to.clone()).await);
        stack.database.url.replace(&to, on_the_way.addr())
    })
    .await;
    let proxy = proxy.unwrap();
    let mut world = World::start(stack).await;
    for _ in 0..2 {
        proxy.strand();
        world.goes_on().await;
        // Nobody mends anything: the archive helps itself.
        let archived = world.stack.archived("r1").await.len();
        world.stack.archived_when("r1", archived + 1).await;
    }
    world.audit().await;
}
