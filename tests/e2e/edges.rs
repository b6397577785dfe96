//! Several edges, and both subprotocols.

use serde_json::json;

use crate::support::{Format, Stack};

/// One order for everybody: whoever reads, wherever, in whichever form, has the same account.
#[tokio::test]
async fn two_edges_and_both_subprotocols_see_the_same() {
    let stack = Stack::builder().edges(2).start().await;
    let mut readers = Vec::new();
    for (edge, format) in
        [("edge", Format::Json), ("edge", Format::MsgPack), ("edge2", Format::Json), ("edge2", Format::MsgPack)]
    {
        let mut reader = stack.client_at(edge, format, "reader", &format!("{edge}-{format:?}")).await;
        reader.join("chat", json!("start")).await;
        readers.push(reader);
    }
    let mut one = stack.client_at("edge", Format::Json, "one", "d").await;
    let mut two = stack.client_at("edge2", Format::MsgPack, "two", "d").await;
    for n in 0..20 {
        let body =
            json!({ "n": n, "deep": [{ "type": "a key like ours", "b": null }], "text": "grüße \u{1F600}", "f": 1.5 });
        one.send("chat", &format!("one-{n}"), body.clone()).await;
        two.send("chat", &format!("two-{n}"), body).await;
    }
    for reader in &mut readers {
        reader.delivered_up_to("chat", 40).await;
    }
    let first = readers[0].account("chat").to_vec();
    assert_eq!(first.iter().filter(|entry| entry["type"] == "message").count(), 40);
    for reader in &readers[1..] {
        assert_eq!(reader.account("chat"), first);
    }
}

/// What a device has acknowledged at one edge is known at the other.
#[tokio::test]
async fn a_device_goes_on_at_another_edge() {
    let stack = Stack::builder().edges(2).start().await;
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client_at("edge", Format::Json, "bob", "desk").await;
    bob.join("chat", json!("start")).await;
    alice.send("chat", "c-1", json!(1)).await;
    bob.delivered_up_to("chat", 1).await;
    bob.ack_delivered("chat").await;
    bob.close().await;
    alice.send("chat", "c-2", json!(2)).await;

    let mut bob = stack.client_at("edge2", Format::MsgPack, "bob", "desk").await;
    let joined = bob.join("chat", json!("saved")).await;
    assert_eq!(joined["resume"], "resumed");
    bob.delivered_up_to("chat", 2).await;
    assert_eq!(bob.bodies("chat"), [json!(2)]);
}

/// Promise 7, across edges.
#[tokio::test]
async fn the_newer_connection_of_a_device_replaces_the_older_at_another_edge() {
    let stack = Stack::builder().edges(2).start().await;
    let mut older = stack.client_at("edge", Format::Json, "bob", "desk").await;
    let mut newer = stack.client_at("edge2", Format::Json, "bob", "desk").await;
    let bye = older.expect("bye").await;
    assert_eq!(bye["reason"], "replaced");
    assert_eq!(older.closed().await.0, 4504);
    newer.send("chat", "c-1", json!(1)).await;
}

/// Whoever comes from an edge that was killed waits for no answer of it; one that is frozen may still have something to say.
#[tokio::test]
async fn an_edge_that_was_killed_is_known_to_be_gone() {
    let stack = Stack::builder().edges(2).start().await;
    let take_overs = async |outcome: &str| {
        stack.metric("edge2", &format!("millstream_take_overs_total{{outcome=\"{outcome}\"}}")).await
    };
    for (device, end, outcome) in
        [("phone", None, "replaced"), ("desk", Some("STOP"), "silent"), ("car", Some("KILL"), "gone")]
    {
        if end == Some("KILL") {
            stack.process("edge").signal("CONT");
        }
        let _older = stack.client_at("edge", Format::Json, "bob", device).await;
        if let Some(signal) = end {
            stack.process("edge").signal(signal);
        }
        let _newer = stack.client_at("edge2", Format::Json, "bob", device).await;
        assert_eq!(take_overs(outcome).await, 1.0, "{outcome}");
    }
}

/// SIGTERM: the clients are told when to come back, and lose nothing by it.
#[tokio::test]
async fn an_edge_that_stops_says_when_to_come_back() {
    let mut stack = Stack::start().await;
    let mut bob = stack.client("bob", "desk").await;
    bob.join("chat", json!("start")).await;
    bob.send("chat", "c-1", json!(1)).await;
    bob.delivered_up_to("chat", 1).await;
    bob.ack_delivered("chat").await;
    stack.process("edge").signal("TERM");
    let bye = bob.expect("bye").await;
    assert_eq!(bye["reconnect"], true);
    assert!(bye["reconnect_after_ms"].is_u64(), "{bye}");
    assert_eq!(bob.closed().await.0, 1012);
    assert!(stack.process("edge").status().await.success());

    stack.start_again("edge").await;
    let mut bob = stack.client("bob", "desk").await;
    let joined = bob.join("chat", json!("saved")).await;
    assert_eq!((&joined["resume"], &joined["since"]["seq"]), (&json!("resumed"), &json!(1)));
}
