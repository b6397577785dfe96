//! Acks, saved cursors and read markers.

use serde_json::json;

use crate::support::{Format, Reply, Stack, wait_until};

/// Each device resumes where it had acknowledged, over connections, edges and restarts.
#[tokio::test]
async fn a_device_resumes_after_what_it_acknowledged() {
    let mut stack = Stack::builder().edges(2).start().await;
    let mut writer = stack.client("writer", "w").await;
    let mut phone = stack.client("alice", "phone").await;
    let mut laptop = stack.client("alice", "laptop").await;
    for client in [&mut phone, &mut laptop] {
        client.join("hall", json!("start")).await;
    }
    for n in 1..=10 {
        writer.send("hall", &format!("c{n}"), json!(n)).await;
    }
    phone.delivered_up_to("hall", 10).await;
    phone.send_frame(&json!({ "type": "ack", "room": "hall", "seq": 4 })).await;
    phone.send_frame(&json!({ "type": "ack", "room": "hall", "seq": 2 })).await;
    phone.close().await;
    laptop.delivered_up_to("hall", 10).await;
    laptop.send_frame(&json!({ "type": "read", "room": "hall", "seq": 10 })).await;
    laptop.close().await;
    stack.start_again("edge").await;
    for (edge, device, acked) in [("edge2", "phone", 4), ("edge", "laptop", 10), ("edge", "phone", 4)] {
        let mut client = stack.client_at(edge, Format::Json, "alice", device).await;
        let joined = client.join("hall", json!("saved")).await;
        assert_eq!((&joined["resume"], &joined["since"]["seq"]), (&json!("resumed"), &json!(acked)), "{device}");
        assert_eq!(joined["unread"], 0, "the laptop has read all of it");
        assert_eq!(client.bodies("hall").len(), 10 - acked, "{device}");
        client.close().await;
    }
}

/// Cursors are written while a connection lives, so a killed edge costs seconds at most.
#[tokio::test]
async fn cursors_are_written_while_the_connection_lives() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__CURSOR_INTERVAL", "100ms").start().await;
    let mut client = stack.client("alice", "phone").await;
    client.join("hall", json!("start")).await;
    let sent = client.send("hall", "c1", json!(1)).await;
    client.delivered_up_to("hall", 1).await;
    client.ack_delivered("hall").await;
    let key = format!("{}:cursor:alice:phone", stack.prefix);
    let wanted = format!("{},1", sent["id"].as_str().unwrap());
    wait_until("the cursor is written", async || {
        stack.redis().command(["HGET", &key, "hall"]).await == Reply::Bytes(wanted.clone().into())
    })
    .await;
    let ttl = stack.redis().command(["TTL", &key]).await.int();
    assert!((29 * 86_400..=30 * 86_400).contains(&ttl), "{ttl}");
}

/// A client that acknowledges one by one, far behind what was delivered, loses no step.
#[tokio::test]
async fn an_ack_far_behind_the_delivery_is_saved_all_the_same() {
    let stack = Stack::builder().env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0").start().await;
    let mut client = stack.client("alice", "phone").await;
    client.join("hall", json!("start")).await;
    for n in 0..1_500 {
        client.send_frame(&json!({ "type": "send", "room": "hall", "cid": format!("c{n}"), "body": n })).await;
        if n % 50 == 49 {
            client.delivered_up_to("hall", n + 1).await;
        }
    }
    client.delivered_up_to("hall", 1_500).await;
    client.send_frame(&json!({ "type": "ack", "room": "hall", "seq": 100 })).await;
    let key = format!("{}:cursor:alice:phone", stack.prefix);
    wait_until("the cursor is written", async || {
        matches!(stack.redis().command(["HGET", &key, "hall"]).await, Reply::Bytes(cursor) if cursor.ends_with(b",100"))
    })
    .await;
}
