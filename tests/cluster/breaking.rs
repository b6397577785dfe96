//! Traffic while the cluster changes.

use serde_json::json;

use crate::builder;
use crate::support::{Cluster, Format, Receiver, Stack, Traffic, readers, wait_until};

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
        let refused = retries(&stack, "RedisRefused").await;
        cluster.begin_to_move(SLOT, from, to, &["{3}:log", "{3}:epoch"]).await;
        wait_until("a send was refused meanwhile", async || retries(&stack, "RedisRefused").await > refused).await;
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

/// Without a replica: a master that hangs executes later what was given up, one that dies comes back with all
/// that it had acknowledged, and meanwhile the others' partitions go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_comes_back_has_all_and_the_others_went_on() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start_with(false, &["--cluster-require-full-coverage", "no"]).await;
    let stack = builder(&cluster, &receiver).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    let mut alice = stack.client("alice", "phone").await;
    let near = elsewhere(&stack, "{3}");
    traffic.goes_on(BETWEEN).await;

    let unanswered = retries(&stack, "RedisUnavailable").await;
    cluster.node(1).freeze();
    wait_until("calls are given up", async || retries(&stack, "RedisUnavailable").await > unanswered + 2.0).await;
    alice.send(&near, "while-it-hangs", json!(1)).await;
    cluster.node(1).thaw();
    cluster.is_well().await;
    traffic.goes_on(BETWEEN).await;

    cluster.node(1).kill9();
    for n in 0..10 {
        alice.send(&near, &format!("while-it-is-dead-{n}"), json!(n)).await;
    }
    cluster.node(1).start_again().await;
    cluster.is_well().await;
    traffic.goes_on(BETWEEN).await;
    assert_eq!(stack.archived_when(&near, 11).await, stack.logged(&near).await);
    stack.assert_all_run();
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// What a failover may lose without `replicated(1)` is not passed over: whoever saw it is told, and the
/// numbers are dense all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_without_the_last_writes_resumes_nobody_who_saw_them() {
    const KEPT: u64 = 5;
    const LOST: u64 = 3;
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(true).await;
    let mut stack = builder(&cluster, &receiver).start().await;
    let room = elsewhere(&stack, "{1}");
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client_at("edge2", Format::MsgPack, "bob", "desk").await;
    bob.join(&room, json!("start")).await;
    for n in 1..=KEPT {
        alice.send(&room, &format!("c-{n}"), json!(n)).await;
    }
    bob.delivered_up_to(&room, KEPT).await;
    stack.archived_when(&room, KEPT as usize).await;
    cluster.node(1).command(["WAIT", "1", "0"]).await;
    let kept = bob.cursor(&room);
    stack.kill9("archive");
    cluster.cut_off(4).await;
    for n in KEPT + 1..=KEPT + LOST {
        alice.send(&room, &format!("c-{n}"), json!(n)).await;
    }
    bob.delivered_up_to(&room, KEPT + LOST).await;
    let lost = bob.cursor(&room);
    cluster.node(1).kill9();
    cluster.leads(4).await;
    stack.start_again("archive").await;

    for n in 1..=LOST + 1 {
        let sent = alice.send_until_sent(&room, &format!("again-{n}"), json!(format!("again-{n}"))).await;
        assert_eq!(sent["seq"], KEPT + n, "{sent}");
    }
    let reset = bob.expect_in("reset", &room).await;
    assert_eq!(reset["reason"], "forked", "{reset}");
    bob.delivered_up_to(&room, KEPT + LOST + 1).await;
    let mut carol = stack.client("carol", "desk").await;
    let joined = carol.join(&room, lost).await;
    assert_eq!((&joined["resume"], &joined["reason"]), (&json!("reset"), &json!("forked")), "{joined}");
    let joined = carol.join(&room, kept).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    carol.delivered_up_to(&room, KEPT + LOST + 1).await;
    let all = (KEPT + LOST + 1) as usize;
    assert_eq!(stack.archived_when(&room, all).await, stack.logged(&room).await);
    stack.assert_no_panic();
}

/// A room apart from those of the traffic, in the partition with this hash tag.
fn elsewhere(stack: &Stack, tag: &str) -> String {
    let names = (0..).map(|n| format!("apart{n}"));
    names.into_iter().find(|room| stack.key_of(room, "log").contains(tag)).unwrap()
}

/// How many calls that wrote into the log are said again, by why.
async fn retries(stack: &Stack, kind: &str) -> f64 {
    let metric = format!("millstream_publish_retries_total{{kind=\"{kind}\"}}");
    stack.metric("edge", &metric).await + stack.metric("edge2", &metric).await
}
