//! A Redis that is there and refuses: sends are `unavailable`, and go on when it takes them again.

use std::time::Duration;

use crate::support::{Redis, Reply, wait_until};
use crate::world::World;

/// Sends are refused between these two commands, and nothing is lost by it.
async fn refuses_between(options: &[&str], refuse: &str, accept: &str) {
    let world = World::start(options).await;
    let mut probe = world.probe().await;
    for _ in 0..2 {
        world.command(refuse).await;
        probe.is_refused().await;
        world.command(accept).await;
        probe.is_accepted().await;
        world.goes_on().await;
    }
    world.audit(Some(probe)).await;
}

/// `OOM command not allowed when used memory > 'maxmemory'`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_memory_refuses_sends_and_loses_nothing() {
    refuses_between(&[], "CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0").await;
}

/// `READONLY You can't write against a read only replica`: of a master that can't be reached, so that
/// what is there stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_is_made_a_replica_refuses_sends_and_loses_nothing() {
    refuses_between(&[], "REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE").await;
}

/// `NOREPLICAS Not enough good replicas to write`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_replicas_refuse_sends_and_lose_nothing() {
    refuses_between(&[], "CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0").await;
}

/// `BUSY Redis is busy running a script`, until somebody kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_script_that_never_ends_refuses_sends_and_loses_nothing() {
    let world = World::start(&["--lua-time-limit", "100"]).await;
    let mut probe = world.probe().await;
    let endless = async { world.redis().try_command(["EVAL", "while true do end", "0"]).await };
    let meanwhile = async {
        wait_until("Redis is busy", async || is_error(world.redis(), "BUSY").await).await;
        probe.is_refused().await;
        world.command("SCRIPT KILL").await;
        probe.is_accepted().await;
    };
    tokio::join!(endless, meanwhile).0.unwrap();
    world.goes_on().await;
    world.audit(Some(probe)).await;
}

/// Nothing is answered while clients are paused, or no write is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_pauses_its_clients_loses_nothing() {
    let world = World::start(&[]).await;
    let mut probe = world.probe().await;
    for what in ["WRITE", "ALL"] {
        world.command(&format!("CLIENT PAUSE 5000 {what}")).await;
        probe.is_refused().await;
        probe.is_accepted().await;
        world.goes_on().await;
    }
    world.audit(Some(probe)).await;
}

/// `LOADING Redis is loading the dataset in memory`, for a while after a restart with a long file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loads_for_long_refuses_sends_and_loses_nothing() {
    let world = World::start(&["--key-load-delay", "10"]).await;
    let mut probe = world.probe().await;
    // A long file: each command of it costs a moment when it is loaded.
    let fill = "for i = 1, 100000 do redis.call('INCR', KEYS[1]) end";
    assert!(!world.redis().command(["EVAL", fill, "1", "filling"]).await.is_error());
    world.redis().kill9();
    world.redis().spawn_again();
    wait_until("Redis is loading", async || is_error(world.redis(), "LOADING").await).await;
    probe.is_refused().await;
    wait_until("Redis has loaded", async || matches!(ping(world.redis()).await, Some(Reply::Bytes(_)))).await;
    probe.is_accepted().await;
    world.goes_on().await;
    world.audit(Some(probe)).await;
}

async fn ping(redis: &Redis) -> Option<Reply> {
    let answer = tokio::time::timeout(Duration::from_secs(5), redis.try_command(["PING"])).await;
    answer.ok()?.ok()
}

async fn is_error(redis: &Redis, code: &str) -> bool {
    matches!(ping(redis).await, Some(Reply::Error(error)) if error.starts_with(code))
}
