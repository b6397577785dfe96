//! Publishing over retries: a `cid` is accepted once, however often and wherever it is sent.

use serde_json::{Value, json};

use crate::support::{Redis, Stack};

fn assert_repeats(again: &Value, first: &Value) {
    assert_eq!((&again["id"], &again["seq"]), (&first["id"], &first["seq"]));
    assert_eq!(again["duplicate"], true, "{again}");
}

#[tokio::test]
async fn a_send_is_answered_alike_on_the_same_and_on_a_later_connection() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    let first = alice.send("chat", "c-1", json!("x")).await;
    assert_repeats(&alice.send("chat", "c-1", json!("x")).await, &first);
    alice.close().await;
    let mut alice = stack.client("alice", "phone").await;
    assert_repeats(&alice.send("chat", "c-1", json!("x")).await, &first);
    assert_eq!(stack.logged("chat").await, [(1, "c-1".to_owned())]);

    // Another device's cid is another cid.
    let mut tablet = stack.client("alice", "tablet").await;
    assert_eq!(tablet.send("chat", "c-1", json!("x")).await["duplicate"], false);
}

#[tokio::test]
async fn a_send_is_answered_alike_after_restarts_of_the_edge_and_of_redis() {
    let mut stack = Stack::builder().redis(Redis::start(&[]).await).start().await;
    let mut alice = stack.client("alice", "phone").await;
    let first = alice.send("chat", "c-1", json!("x")).await;

    stack.kill9("edge");
    stack.start_again("edge").await;
    let mut alice = stack.client("alice", "phone").await;
    assert_repeats(&alice.send("chat", "c-1", json!("x")).await, &first);

    stack.redis().kill9();
    stack.redis().start_again().await;
    // While the edge finds Redis again, a send may be refused as retryable.
    assert_repeats(&alice.send_until_sent("chat", "c-1", json!("x")).await, &first);
    assert_eq!(stack.logged("chat").await, [(1, "c-1".to_owned())]);
}

#[tokio::test]
async fn a_cid_with_another_body_or_room_is_a_conflict() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send("chat", "c-1", json!("x")).await;
    alice.send_frame(&json!({ "type": "send", "room": "chat", "cid": "c-1", "body": "y" })).await;
    let error = alice.expect_error("cid_conflict").await;
    assert_eq!(error["retryable"], false);
    assert_eq!(stack.logged("chat").await.len(), 1);
}

/// The server remembers 64 cids of a device and partition; an older one may be accepted anew.
#[tokio::test]
async fn the_last_64_cids_are_remembered() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    let mut firsts = Vec::new();
    for n in 0..64 {
        firsts.push(alice.send("chat", &format!("c-{n}"), json!(n)).await);
    }
    for (n, first) in firsts.iter().enumerate() {
        assert_repeats(&alice.send("chat", &format!("c-{n}"), json!(n)).await, first);
    }
    assert_eq!(stack.logged("chat").await.len(), 64);
}
