//! SIGTERM under load.

use serde_json::json;

use crate::support::{Receiver, Redis, Stack, Traffic, readers};

/// Messages that have to be accepted before and after each stop.
const BETWEEN: u64 = 60;

/// A lease that is not given back would keep its partitions from the successor for longer than the
/// traffic waits. One that isn't in time says that it gave up instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_stopped_under_load_leaves_in_order_and_its_successor_starts_at_once() {
    let receiver = Receiver::start().await;
    let mut stack = Stack::builder()
        .edges(2)
        .data_callback(&receiver.url())
        .env("MILLSTREAM__GROUP__LEASE_TTL", "60s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__SHUTDOWN__GRACE", "10s")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .start()
        .await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for process in ["archive", "replay", "callback", "edge", "edge2"] {
        traffic.goes_on(BETWEEN).await;
        let status = stack.process(process).stop().await;
        let told = stack.process(process).stderr();
        assert!(status.success() && told.contains("stopped in order"), "{process} ended with {status}: {told}");
        traffic.goes_on(BETWEEN).await;
        stack.start_again(process).await;
    }
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// Each of the last things that an edge tells Redis has its time-out; all of them are within the grace period.
#[tokio::test]
async fn an_edge_that_is_stopped_while_redis_is_frozen_ends_in_order_too() {
    let redis = Redis::start(&[]).await;
    let stack = Stack::builder().redis(redis).env("MILLSTREAM__SHUTDOWN__GRACE", "4s").start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.join("room", json!("start")).await;
    stack.redis().freeze();
    let status = stack.process("edge").stop().await;
    stack.redis().thaw();
    let told = stack.process("edge").stderr();
    assert!(status.success() && told.contains("stopped in order"), "{status}: {told}");
}
