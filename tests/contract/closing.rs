//! Section 7: every close code, and what precedes it.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Format, SECRET, Stack, now_s, post, token, token_of};

/// Frames of the wrong sort.
#[tokio::test]
async fn frames_of_the_wrong_sort_close_the_connection() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge");
    let good = token("alice", &[("*", "rw")]);

    let mut binary = Client::hello_at(addr, Format::Json, &good, "a").await;
    binary.send_raw(Message::binary(vec![0x80])).await;
    assert_eq!(binary.closed().await.0, 1003);

    let mut large = Client::hello_at(addr, Format::Json, &good, "b").await;
    large.send_raw(Message::text("x".repeat(70_000))).await;
    assert_eq!(large.closed().await.0, 1009);

    let mut wrong = Client::hello_at(addr, Format::Json, &good, "c").await;
    for _ in 0..11 {
        wrong.send_raw(Message::text("{")).await;
    }
    assert_eq!(wrong.closed().await.0, 4501);

    let mut text = Client::hello_at(addr, Format::MsgPack, &good, "d").await;
    text.send_raw(Message::text("{}")).await;
    assert_eq!(text.closed().await.0, 1003);
}

/// A newer connection of the same device, on the same edge and on another; the cursor is not lost.
#[tokio::test]
async fn a_newer_connection_of_a_device_replaces_the_older() {
    let stack = Stack::builder().edges(2).env("MILLSTREAM__EDGE__CURSOR_INTERVAL", "1h").start().await;
    let mut first = stack.client("alice", "phone").await;
    first.join("hall", json!("start")).await;
    for edge in ["edge", "edge2", "edge"] {
        first.send("hall", &format!("to {edge}"), json!(1)).await;
        let seq = stack.logged("hall").await.len() as u64;
        first.delivered_up_to("hall", seq).await;
        first.ack_delivered("hall").await;
        // The answer to a later frame shows that the ack has been taken.
        first.send_frame(&json!({ "type": "ping" })).await;
        first.expect("pong").await;
        let mut second = stack.client_at(edge, Format::Json, "alice", "phone").await;
        let bye = first.expect("bye").await;
        assert_eq!((&bye["reason"], &bye["reconnect"]), (&json!("replaced"), &json!(false)));
        assert_eq!(first.closed().await.0, 4504);
        let joined = second.join("hall", json!("saved")).await;
        assert_eq!((&joined["resume"], &joined["since"]["seq"]), (&json!("resumed"), &json!(seq)), "{joined}");
        assert!(second.bodies("hall").is_empty(), "nothing comes twice");
        first = second;
    }
}

/// A token that ends, a new one, one of somebody else, one that grants less.
#[tokio::test]
async fn a_token_ends_and_is_renewed() {
    let stack = Stack::builder().env("MILLSTREAM__AUTH__LEEWAY", "0s").start().await;
    let addr = stack.addr("edge");
    let short = token_of(&json!({ "sub": "alice", "exp": now_s() + 2, "rooms": { "*": "rw" } }), SECRET);
    let mut ends = Client::hello_at(addr, Format::Json, &short, "a").await;
    let mut renewed = Client::hello_at(addr, Format::Json, &short, "b").await;
    renewed.join("hall", json!("now")).await;
    renewed.join("team", json!("now")).await;
    renewed.send_frame(&json!({ "type": "refresh", "token": token("alice", &[("team", "r")]) })).await;
    renewed.expect("welcome").await;
    let left = renewed.expect("left").await;
    assert_eq!((&left["room"], &left["reason"]), (&json!("hall"), &json!("forbidden")));
    ends.expect_error("unauthorized").await;
    assert_eq!(ends.closed().await.0, 4500);
    renewed.send_frame(&json!({ "type": "ping" })).await;
    renewed.expect("pong").await;
    renewed.send_frame(&json!({ "type": "refresh", "token": token("bob", &[]) })).await;
    renewed.expect_error("unauthorized").await;
    assert_eq!(renewed.closed().await.0, 4500);
}

/// An operator closes a user's connections.
#[tokio::test]
async fn an_operator_can_disconnect_a_user() {
    let stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let mut alice = stack.client("alice", "a").await;
    let mut bob = stack.client("bob", "b").await;
    let key = [("x-api-key", crate::support::API_KEY)];
    assert_eq!(post(stack.addr("api"), "/api/v1/users/alice/disconnect", &key, "").await.0, 200);
    assert_eq!(alice.closed().await.0, 4505);
    bob.send_frame(&json!({ "type": "ping" })).await;
    bob.expect("pong").await;
}

/// A client that is silent for two heartbeats is gone; one that answers pings is not.
#[tokio::test]
async fn a_silent_client_is_closed_after_two_heartbeats() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__HEARTBEAT", "300ms").start().await;
    let mut answers = stack.client("alice", "answers").await;
    // A client that doesn't read doesn't answer pings either.
    let mut silent = stack.client("bob", "silent").await;
    let closed = "millstream_connections_closed_total{reason=\"no_heartbeat\"}";
    while stack.metric("edge", closed).await < 1.0 {
        answers.send_frame(&json!({ "type": "ping" })).await;
        answers.expect("pong").await;
    }
    assert_eq!(silent.closed().await.0, 4002);
}

/// Much more than the rate allows, for long.
#[tokio::test]
async fn a_thousand_refusals_in_ten_seconds_close_the_connection() {
    let stack = Stack::builder()
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "1")
        .env("MILLSTREAM__LIMITS__SEND_BURST", "1")
        .start()
        .await;
    let mut client = stack.client("alice", "a").await;
    for n in 0..1_100 {
        let frame = json!({ "type": "send", "room": "hall", "cid": format!("c{n}"), "body": n });
        if !client.try_send_frame(&frame).await {
            break;
        }
    }
    assert_eq!(client.closed().await.0, 4290);
}

/// A stopping edge finishes what it has accepted, says goodbye and when to come back, and exits 0.
#[tokio::test]
async fn a_stopping_edge_sends_its_clients_away() {
    let stack = Stack::start().await;
    let mut client = stack.client("alice", "a").await;
    client.join("hall", json!("start")).await;
    for n in 0..20 {
        client.send_frame(&json!({ "type": "send", "room": "hall", "cid": format!("c{n}"), "body": n })).await;
    }
    client.expect("sent").await;
    stack.process("edge").signal("TERM");
    let bye = client.expect("bye").await;
    assert_eq!((&bye["reason"], &bye["reconnect"]), (&json!("restart"), &json!(true)));
    assert!(bye["reconnect_after_ms"].is_u64());
    assert_eq!(client.closed().await.0, 1012);
    assert!(stack.process("edge").status().await.success());
}
