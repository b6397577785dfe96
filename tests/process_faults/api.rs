//! Publishing over HTTP while the API dies.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{API_KEY, Stack, post, wait_until};

/// Rooms, each with a caller of its own.
const ROOMS: [&str; 4] = ["a", "b", "c", "d"];
/// Messages of each.
const MESSAGES: usize = 60;
/// Wait before a call is repeated.
const PAUSE: Duration = Duration::from_millis(50);

/// A call without an answer is repeated with its cid: what an earlier process had stored is found.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_that_is_killed_loses_and_doubles_nothing() {
    let mut stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let published = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for room in ROOMS {
        let (addr, published) = (stack.addr("api").to_owned(), published.clone());
        callers.spawn(async move { (room, publish(&addr, room, &published).await) });
    }
    for part in 1..=3 {
        let enough = part * ROOMS.len() * MESSAGES / 4;
        wait_until("enough is published", async || published.load(Ordering::SeqCst) >= enough).await;
        stack.kill9("api");
        stack.start_again("api").await;
    }
    while let Some(ended) = callers.join_next().await {
        let (room, answers) = ended.unwrap();
        assert_eq!(answers.len(), MESSAGES);
        assert_eq!(stack.logged(room).await, answers, "the log of {room}");
        assert_eq!(stack.archived_when(room, MESSAGES).await, answers, "the archive of {room}");
    }
}

/// Publishes in order; seqs and cids as they were answered.
async fn publish(addr: &str, room: &str, published: &AtomicUsize) -> Vec<(u64, String)> {
    let mut answers = Vec::new();
    for n in 0..MESSAGES {
        let cid = format!("{room}-{n}");
        let message = json!({ "user": "caller", "cid": cid, "body": n }).to_string();
        let path = format!("/api/v1/rooms/{room}/messages");
        loop {
            let (status, answer) = post(addr, &path, &[("x-api-key", API_KEY)], &message).await;
            if status == 200 {
                let answer: Value = serde_json::from_str(&answer).unwrap();
                answers.push((answer["seq"].as_u64().unwrap(), cid));
                published.fetch_add(1, Ordering::SeqCst);
                break;
            }
            // Nobody there, an answer that was cut off, or `unavailable`.
            assert!(matches!(status, 0 | 503), "{status}: {answer}");
            tokio::time::sleep(PAUSE).await;
        }
    }
    answers
}
