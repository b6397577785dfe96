//! What closes a batch of the archive: rows, time, bytes, a flush.

use serde_json::json;

use crate::support::{Process, Stack, get, wait_until};

/// Settings under which a batch stays open unless `open` closes it.
fn nothing_closes(key: &str, value: &str) -> crate::support::StackBuilder {
    let mut builder = Stack::builder();
    for (name, far) in [("MAX_ROWS", "5000"), ("MAX_DELAY", "1h"), ("MAX_BYTES", "64000000"), ("BULK_ROWS", "5000")] {
        let value = if name == key { value } else { far };
        builder = builder.env(&format!("MILLSTREAM__ARCHIVE__{name}"), value);
    }
    builder
}

/// Batches closed by a cause, as the archive's metrics say.
async fn closed_by(stack: &Stack, cause: &str) -> u64 {
    let (status, text) = get(stack.metrics_addr("archive"), "/metrics", &[]).await;
    assert_eq!(status, 200);
    let wanted = format!("cause=\"{cause}\"");
    let lines =
        text.lines().filter(|line| line.starts_with("millstream_archive_batch_rows_count") && line.contains(&wanted));
    lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

async fn send(stack: &Stack, count: usize, body: &str) {
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..count {
        alice.send("chat", &format!("c-{n}"), json!(body)).await;
    }
}

/// Ten entries and no more at a time: what comes while a batch is being written is a backlog, and
/// may go in a larger one.
#[tokio::test]
async fn a_batch_closes_by_rows() {
    let stack = nothing_closes("MAX_ROWS", "10").start().await;
    let mut alice = stack.client("alice", "phone").await;
    // With the event `room_created` these are ten entries, then ten more.
    for range in [0..9, 9..19] {
        let count = range.end;
        for n in range {
            alice.send("chat", &format!("c-{n}"), json!("x")).await;
        }
        assert_eq!(stack.archived_when("chat", count).await.len(), count);
    }
    wait_until("the metrics say so", async || closed_by(&stack, "rows").await == 2).await;
    assert_eq!(closed_by(&stack, "delay").await, 0);
}

#[tokio::test]
async fn a_batch_closes_by_time() {
    let stack = nothing_closes("MAX_DELAY", "300ms").start().await;
    send(&stack, 3, "x").await;
    assert_eq!(stack.archived_when("chat", 3).await.len(), 3);
    wait_until("the metrics say so", async || closed_by(&stack, "delay").await >= 1).await;
    assert_eq!(closed_by(&stack, "rows").await, 0);
}

#[tokio::test]
async fn a_batch_closes_by_bytes() {
    let stack = nothing_closes("MAX_BYTES", "20000").start().await;
    send(&stack, 6, &"x".repeat(8_000)).await;
    wait_until("large rows are archived", async || stack.archived("chat").await.len() >= 4).await;
    wait_until("the metrics say so", async || closed_by(&stack, "bytes").await >= 1).await;
}

/// `millstream flush` returns when what was accepted before it is in Postgres.
#[tokio::test]
async fn a_batch_closes_by_a_flush() {
    let stack = nothing_closes("", "").start().await;
    send(&stack, 7, "x").await;
    assert!(stack.archived("chat").await.is_empty());
    let flush = Process::spawn("millstream", &["flush"], stack.env());
    assert!(flush.status().await.success(), "{}", flush.stderr());
    assert_eq!(stack.archived("chat").await.len(), 7);
    wait_until("the metrics say so", async || closed_by(&stack, "flush").await >= 1).await;
}
