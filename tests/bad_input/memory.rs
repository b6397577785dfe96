//! Promise 5 at its worst: who never reads costs nothing, and loses nothing.

use serde_json::json;

use crate::raw::{Got, Raw};
use crate::support::{Format, Redis, Stack, wait_until};
use crate::watch::{SLACK, beside};

/// Messages of this many bytes.
const BODY_BYTES: usize = 32_000;
/// So many of them: 100 MB.
const MESSAGES: u64 = 3_200;

/// A client that never reads while its room gets 100 MB: the edge holds a bounded part of it, the writer and
/// the others aren't held up, and once the client reads it gets everything, in order.
#[tokio::test]
async fn a_hundred_megabytes_for_who_never_reads_are_not_held() {
    let stack = Stack::builder()
        // A hundred megabytes on disk at once would hold up the other tests' sends.
        .redis(Redis::start(&[]).await)
        .env("MILLSTREAM__EDGE__STALL_TIMEOUT", "10m")
        .env("MILLSTREAM__EDGE__HEARTBEAT", "10m")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .env("MILLSTREAM__EDGE__PUBLISH_RETRY", "1m")
        .start()
        .await;
    let mut never = Raw::welcomed(stack.addr("edge"), Format::Json, "never").await;
    never.send(&json!({ "type": "join", "room": "hall", "since": "start" })).await;
    never.answer_in("hall", "live").await;
    // What is asked here is in the log, and whoever archives it meanwhile only takes time.
    stack.kill9("archive");
    // The heap of the edge grows by what is on its way anyway: pages, batches, one socket's queue; and by the 16 MiB that it
    // keeps of a partition's log (`edge.tail_bytes`).
    beside(&stack, 3 * SLACK, async {
        let mut writer = Raw::welcomed(stack.addr("edge"), Format::Json, "writer").await;
        let body = "x".repeat(BODY_BYTES);
        let (mut sent, mut answered) = (0, 0);
        while answered < MESSAGES {
            while sent < MESSAGES && sent - answered < 48 {
                sent += 1;
                let frame = format!(r#"{{"type":"send","room":"hall","cid":"c{sent}","body":"{body}"}}"#);
                assert!(writer.payload(frame.as_bytes()).await, "the writer is served");
            }
            writer.answer("sent").await;
            answered += 1;
        }
        wait_until("the reader's backlog was dropped", async || {
            stack.metric("edge", "millstream_slow_readers_total").await >= 1.0
        })
        .await;
        read_everything(&mut never).await;
    })
    .await;
}

/// Reads until the last message, whose bodies come whole and whose seqs go up by one each.
async fn read_everything(never: &mut Raw) {
    let (mut seq, mut bytes) = (0, 0);
    while seq < MESSAGES {
        let Got::Frame(1, payload) = never.next().await else { continue };
        let text = String::from_utf8(payload).unwrap();
        assert!(!text.starts_with(r#"{"type":"reset""#) && !text.starts_with(r#"{"type":"bye""#), "{text}");
        // Parsing a hundred megabytes would take longer than everything else.
        for part in text.split(r#""type":"message""#).skip(1) {
            seq += 1;
            assert!(part.contains(&format!(r#","seq":{seq},"#)), "{seq} comes next, not {part:.200}");
            bytes += part.len();
        }
    }
    assert!(bytes >= MESSAGES as usize * BODY_BYTES, "{bytes} bytes came");
}
