//! Promise 5: slow readers lose nothing and delay nobody.

use serde_json::json;

use crate::support::{Stack, wait_until};

/// A reader that stops reading gets everything later, in order; the others don't wait for it.
#[tokio::test]
async fn a_slow_reader_catches_up_and_delays_nobody() {
    let stack = Stack::builder()
        .env("MILLSTREAM__EDGE__OUTBOX_BYTES", "65536")
        // It reads nothing for as long as the writing takes, which on a busy machine is longer than the default.
        .env("MILLSTREAM__EDGE__STALL_TIMEOUT", "10m")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .start()
        .await;
    let mut slow = stack.client("slow", "s").await;
    slow.join("hall", json!("start")).await;
    let mut writer = stack.client("writer", "w").await;
    writer.join("hall", json!("now")).await;
    let body = "x".repeat(30_000);
    for n in 1..=800u64 {
        writer.send("hall", &format!("c{n}"), json!(body)).await;
        // The writer reads too, and is never held up.
        writer.delivered_up_to("hall", n).await;
    }
    let dropped = stack.metric("edge", "millstream_slow_readers_total").await;
    assert!(dropped > 0.0, "24 MB don't fit into the socket and 64 KiB");
    // The client checks each step: up by one, nothing twice.
    slow.delivered_up_to("hall", 800).await;
    assert_eq!(slow.bodies("hall").len(), 800);
}

/// A reader that takes nothing for too long is closed.
#[tokio::test]
async fn a_stalled_reader_is_closed() {
    let stack = Stack::builder()
        .env("MILLSTREAM__EDGE__STALL_TIMEOUT", "500ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .start()
        .await;
    let mut slow = stack.client("slow", "s").await;
    slow.join("hall", json!("start")).await;
    let mut writer = stack.client("writer", "w").await;
    let body = "x".repeat(30_000);
    for n in 1..=800u64 {
        writer.send("hall", &format!("c{n}"), json!(body)).await;
    }
    wait_until("the stalled connection is closed", async || {
        stack.metric("edge", "millstream_connections_closed_total{reason=\"stalled\"}").await > 0.0
    })
    .await;
}
