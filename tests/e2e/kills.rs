//! `kill -9` in the middle of traffic: nothing is missing or double anywhere.

use serde_json::json;

use crate::support::{Postgres, Receiver, Redis, Stack, StackBuilder, Traffic, readers};

/// Messages that have to be accepted before and after each kill.
const BETWEEN: u64 = 60;

/// Short leases: a successor takes over within the test's patience.
fn builder(receiver: &Receiver) -> StackBuilder {
    Stack::builder()
        .edges(2)
        .data_callback(&receiver.url())
        .env("MILLSTREAM__GROUP__LEASE_TTL", "2s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__ARCHIVE__MAX_DELAY", "100ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_lose_and_double_nothing() {
    let receiver = Receiver::start().await;
    let mut stack = builder(&receiver).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for worker in ["archive", "replay", "callback"] {
        traffic.goes_on(BETWEEN).await;
        stack.kill9(worker);
        traffic.goes_on(BETWEEN).await;
        stack.start_again(worker).await;
    }
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_that_are_killed_lose_and_double_nothing() {
    let receiver = Receiver::start().await;
    let mut stack = builder(&receiver).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for edge in ["edge", "edge2", "edge"] {
        traffic.goes_on(BETWEEN).await;
        stack.kill9(edge);
        traffic.goes_on(BETWEEN).await;
        stack.start_again(edge).await;
    }
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_killed_lose_and_double_nothing() {
    let receiver = Receiver::start().await;
    let stack = builder(&receiver).redis(Redis::start(&[]).await).postgres(Postgres::start().await).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for _ in 0..2 {
        traffic.goes_on(BETWEEN).await;
        stack.redis().kill9();
        stack.redis().start_again().await;
        traffic.goes_on(BETWEEN).await;
        stack.postgres().kill();
        traffic.goes_on(BETWEEN).await;
        stack.postgres().start_again().await;
    }
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// The edge reads by itself what the log holds.
#[tokio::test]
async fn what_the_log_holds_is_caught_up_without_a_replay_worker() {
    let stack = Stack::builder().workers(&["archive"]).env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0").start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=300 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    let mut bob = stack.client("bob", "desk").await;
    bob.join("chat", json!("start")).await;
    bob.delivered_up_to("chat", 300).await;
    assert_eq!(bob.bodies("chat"), (1..=300).map(|n| json!(n)).collect::<Vec<_>>());
}
