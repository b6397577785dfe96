//! Traffic while the cluster changes.

use crate::builder;
use crate::support::{Cluster, Receiver, Stack, Traffic, readers, wait_until};

/// Messages that have to be accepted before and after each change.
const BETWEEN: u64 = 60;
/// A slot with a partition (3, by its hash tag), and where it is: on the first master.
const SLOT: u16 = 1_584;

/// Half of a partition's keys on one node and half on the other, then all of them on the other: calls of
/// several keys are refused for that time, reads follow `ASK`, and nothing is lost or double.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_loses_and_doubles_nothing() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(false).await;
    let stack = builder(&cluster, &receiver).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for (from, to) in [(0, 2), (2, 0)] {
        traffic.goes_on(BETWEEN).await;
        let refused = refused(&stack).await;
        cluster.begin_to_move(SLOT, from, to, &["{3}:log", "{3}:epoch"]).await;
        wait_until("a send was refused meanwhile", async || self::refused(&stack).await > refused).await;
        cluster.finish_moving(SLOT, from, to).await;
    }
    traffic.goes_on(BETWEEN).await;
    stack.assert_all_run();
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// With `replicated(1)` what was acknowledged is on the replica that takes over: first from a master
/// that is killed, then from one that is asked to hand over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn masters_that_fail_over_lose_and_double_nothing() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(true).await;
    let stack = builder(&cluster, &receiver).env("MILLSTREAM__REDIS__DURABILITY", "replicated(1)").start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    traffic.goes_on(BETWEEN).await;

    cluster.node(1).kill9();
    cluster.leads(4).await;
    cluster.node(1).start_again().await;
    cluster.follows(1).await;
    traffic.goes_on(BETWEEN).await;

    let handed_over = cluster.node(5).command(["CLUSTER", "FAILOVER"]).await;
    assert!(!handed_over.is_error(), "{handed_over:?}");
    cluster.leads(5).await;
    cluster.follows(2).await;
    cluster.is_well().await;
    traffic.goes_on(BETWEEN).await;
    stack.assert_all_run();
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// How many calls were refused that wrote into the log.
async fn refused(stack: &Stack) -> f64 {
    let metric = "millstream_publish_retries_total{kind=\"RedisRefused\"}";
    stack.metric("edge", metric).await + stack.metric("edge2", metric).await
}
