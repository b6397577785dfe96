//! `list`, `show` and `purge`.

use serde_json::json;

use crate::support::{Receiver, Respond, Stack, millstream, wait_until};
use crate::{impatient, letters, refuse_odd, refuse_rows, send_numbers};

#[tokio::test]
async fn letters_are_found_by_group_room_reason_time_and_id() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).start().await;
    refuse_rows(&stack, "c-2").await;
    send_numbers(&stack, "one", 4).await;
    send_numbers(&stack, "two", 2).await;

    let all = letters(&stack, &[], 5).await;
    letters(&stack, &["--group", "callback:data"], 3).await;
    let archive = letters(&stack, &["archive"], 2).await;
    assert!(archive.iter().all(|letter| letter["reason"] == "data" && letter["entry"]["body"] == 2), "{archive:?}");
    letters(&stack, &["--reason", "attempts_exhausted"], 3).await;
    letters(&stack, &["--reason", "attempts_exhausted", "--room", "two"], 1).await;
    letters(&stack, &["--room", "nowhere"], 0).await;
    letters(&stack, &["--from", "-1h", "--to", "now"], 5).await;
    letters(&stack, &["--to", "-1h"], 0).await;
    letters(&stack, &["--limit", "1"], 2).await;
    let one = all.iter().find(|letter| letter["group"] == "archive").unwrap();
    letters(&stack, &["--group", "archive", "--id", one["id"].as_str().unwrap()], 1).await;
    letters(&stack, &["--group", "archive", "--id", one["original"].as_str().unwrap()], 1).await;
    let table = millstream(&["dead", "list"], stack.env()).await.ok().out;
    assert!(table.contains("attempts_exhausted") && table.contains(one["id"].as_str().unwrap()), "{table}");
}

/// Who runs the command reads what strangers wrote: it must not move their cursor.
#[tokio::test]
async fn everything_of_a_letter_is_shown_and_forges_nothing() {
    let receiver = Receiver::start().await;
    receiver.answer(|callback| match callback.json()["type"] == "message" {
        true => Respond::Status(500),
        false => Respond::Status(200),
    });
    let stack = impatient(&receiver).start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send("one", "c-1", json!({"text": "red \u{202e}cod\u{e9}"})).await;
    let letter = letters(&stack, &[], 1).await.remove(0);
    let id = letter["id"].as_str().unwrap();
    let table = millstream(&["dead", "list"], stack.env()).await.ok().out;
    assert!(!table.contains("cod"), "what was sent is for `show`: {table}");

    let shown = millstream(&["dead", "show", id], stack.env()).await.ok().out;
    for part in ["callback:data", "attempts_exhausted", "alice", "phone", "c-1", "one", "codé", "\\u{202e}"] {
        assert!(shown.contains(part), "{part} is not in\n{shown}");
    }
    assert!(!shown.contains('\u{202e}'), "{shown}");
    let json = millstream(&["dead", "show", letter["original"].as_str().unwrap(), "--json"], stack.env()).await.ok();
    assert_eq!(json.json()[0]["entry"]["body"]["text"], "red \u{202e}cod\u{e9}");
    let unknown = millstream(&["dead", "show", "1-1"], stack.env()).await;
    assert_eq!(unknown.code, Some(2));
}

#[tokio::test]
async fn a_purge_needs_execute_and_takes_only_what_is_meant() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).start().await;
    send_numbers(&stack, "one", 4).await;
    send_numbers(&stack, "two", 2).await;
    letters(&stack, &[], 3).await;

    let nothing_meant = millstream(&["dead", "purge", "--execute"], stack.env()).await;
    assert_eq!(nothing_meant.code, Some(2), "everything is meant only by --all");
    let plan = millstream(&["dead", "purge", "--room", "one"], stack.env()).await.ok().out;
    assert!(plan.contains("2 dead letters") && plan.contains("nothing was done"), "{plan}");
    letters(&stack, &[], 3).await;
    let done = millstream(&["dead", "purge", "--room", "one", "--execute", "--json"], stack.env()).await.ok().json();
    assert_eq!((&done["executed"], &done["removed"]), (&json!(true), &json!(2)));
    letters(&stack, &["--room", "two"], 1).await;
    let all = millstream(&["dead", "purge", "--all", "--execute"], stack.env()).await.ok().out;
    assert!(all.contains("removed 1 dead letter"), "{all}");
    letters(&stack, &[], 0).await;
    assert_eq!(receiver.seen().iter().filter(|callback| crate::number(callback) == Some(1)).count(), 2);
}

#[tokio::test]
async fn requests_of_edges_can_only_be_purged() {
    let stack = Stack::start().await;
    let key = format!("{}:dead:replay", stack.prefix);
    let fields = ["partition", "0", "original", "1-1", "reason", "corrupt", "error", "x", "attempts", "1"];
    let rest = ["first", "1", "last", "1", "q", "\u{1b}"];
    stack.redis().command(["XADD", &key, "*"].iter().chain(&fields).chain(&rest)).await;
    letters(&stack, &["--group", "replay"], 1).await;
    let shown = millstream(&["dead", "show", "1-1"], stack.env()).await.ok().out;
    assert!(shown.contains("unreadable") && shown.contains("\\x1b") && !shown.contains('\u{1b}'), "{shown}");
    let retried = millstream(&["dead", "retry", "--group", "replay", "--execute"], stack.env()).await.ok().out;
    assert!(retried.contains("only be purged"), "{retried}");
    letters(&stack, &["--group", "replay"], 1).await;
    millstream(&["dead", "purge", "--group", "replay", "--execute"], stack.env()).await.ok();
    wait_until("it is gone", async || letters(&stack, &[], 0).await.is_empty()).await;
}
