//! Joining: every form of `since`, what `joined` says, what is delivered.

use serde_json::{Value, json};

use crate::support::{Client, Format, Stack, token, wait_until};

async fn fill(stack: &Stack, room: &str, count: u64) -> Client {
    let mut writer = stack.client("writer", "w").await;
    for n in 1..=count {
        writer.send(room, &format!("c{n}"), json!(n)).await;
    }
    writer
}

/// Where delivery begins, for each form; the same in both subprotocols.
#[tokio::test]
async fn delivery_begins_where_since_says() {
    let stack = Stack::start().await;
    let mut writer = fill(&stack, "hall", 8).await;
    let log = stack.logged("hall").await;
    let ids: Vec<String> = stack.log("hall").await.into_iter().filter(|e| e.cid.is_some()).map(|e| e.id).collect();
    assert_eq!(log.len(), 8);
    let cases = [
        (json!("start"), "fresh", 1),
        (json!({ "last": 3 }), "fresh", 0),
        (json!({ "last": 1000 }), "fresh", 1),
        (json!({ "id": ids[4], "seq": 5 }), "resumed", 6),
        (json!({ "id": ids[6], "seq": 7 }), "resumed", 8),
        (json!("now"), "fresh", 9),
        (json!("saved"), "fresh", 1),
    ];
    for (n, (since, resume, first)) in cases.iter().enumerate() {
        for format in [Format::Json, Format::MsgPack] {
            let mut client = stack.client_at("edge", format, "reader", &format!("{n}{format:?}")).await;
            let joined = client.join("hall", since.clone()).await;
            assert_eq!(joined["resume"], *resume, "{since}: {joined}");
            let head = 8 + n as u64 * 2 + u64::from(format == Format::MsgPack);
            assert_eq!(joined["head"]["seq"], head, "{since}");
            let before = match first {
                0 => head - 3,
                9 => head,
                first => first - 1,
            };
            assert_eq!(joined["since"]["seq"], before, "{since}: {joined}");
            let number = writer.send("hall", &format!("live{n}{format:?}"), json!("live")).await["seq"].clone();
            client.delivered_up_to("hall", number.as_u64().unwrap()).await;
            let seqs: Vec<u64> = messages(&client, "hall").iter().map(|m| m["seq"].as_u64().unwrap()).collect();
            assert_eq!(seqs, (before + 1..=head + 1).collect::<Vec<_>>(), "{since}");
            client.close().await;
        }
    }
}

fn messages(client: &Client, room: &str) -> Vec<Value> {
    client.account(room).iter().filter(|entry| entry["type"] == "message").cloned().collect()
}

/// A cursor that the log never gave out is answered by a reset, never by a quiet gap.
#[tokio::test]
async fn an_unknown_cursor_is_answered_by_a_reset() {
    let stack = Stack::start().await;
    fill(&stack, "hall", 3).await;
    let mut client = stack.client("reader", "r").await;
    for (since, reason) in
        [(json!({ "id": "9999999999999-0", "seq": 99 }), "forked"), (json!({ "id": "1-1", "seq": 2 }), "forked")]
    {
        let joined = client.join("hall", since.clone()).await;
        assert_eq!((&joined["resume"], &joined["reason"]), (&json!("reset"), &json!(reason)), "{since}");
    }
    let joined = client.join("empty", json!({ "id": "5-5", "seq": 7 })).await;
    assert_eq!(joined["resume"], "reset");
    // Joining again begins anew.
    let joined = client.join("hall", json!("start")).await;
    assert_eq!(joined["since"]["seq"], 0);
    assert_eq!(messages(&client, "hall").len(), 3 + 3, "the reset at 1-1 and this join delivered all three");
}

/// The events of a room: it was created, users came and went; a stay of two connections ends once.
#[tokio::test]
async fn coming_and_going_are_events() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__LEAVE_DEBOUNCE", "300ms").start().await;
    let mut watcher = stack.client("watcher", "w").await;
    watcher.join("hall", json!("start")).await;
    let mut phone = stack.client("alice", "phone").await;
    let mut laptop = stack.client("alice", "laptop").await;
    phone.join("hall", json!("now")).await;
    laptop.join("hall", json!("now")).await;
    phone.send_frame(&json!({ "type": "leave", "ref": 1, "room": "hall" })).await;
    assert_eq!(phone.expect("left").await, json!({ "type": "left", "ref": 1, "room": "hall" }));
    laptop.close().await;
    let events = async || {
        let log = stack.log("hall").await;
        log.into_iter().filter(|e| e.cid.is_none()).map(|e| e.body.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_until("alice has left", async || events().await.last().is_some_and(|last| last == "user_left")).await;
    assert_eq!(events().await, ["room_created", "user_joined", "user_joined", "user_left"]);
    let left = watcher.expect_in("event", "hall").await;
    assert_eq!((&left["event"], &left["user"], &left["seq"]), (&json!("user_joined"), &json!("alice"), &json!(0)));
}

/// An edge that was killed leaves nobody joined for ever.
#[tokio::test]
async fn the_stays_on_a_killed_edge_end() {
    let stack = Stack::builder().edges(2).env("MILLSTREAM__EDGE__LEAVE_DEBOUNCE", "300ms").start().await;
    let mut alice = stack.client_at("edge2", Format::Json, "alice", "a").await;
    alice.join("hall", json!("now")).await;
    stack.kill9("edge2");
    wait_until("alice has left", async || stack.log("hall").await.iter().any(|e| e.body == "user_left")).await;
}

/// `history` pages through a room, whatever serves it.
#[tokio::test]
async fn history_is_paged_in_both_directions() {
    let stack = Stack::start().await;
    let mut writer = fill(&stack, "hall", 12).await;
    stack.archived_when("hall", 12).await;
    let mut ask = async |what: Value| {
        let mut frame = json!({ "type": "history", "ref": 5, "room": "hall" });
        frame.as_object_mut().unwrap().extend(what.as_object().unwrap().clone());
        writer.send_frame(&frame).await;
        let history = writer.expect("history").await;
        let seqs: Vec<u64> = history["entries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|e| e["type"] == "message")
            .map(|e| e["seq"].as_u64().unwrap())
            .collect();
        assert_eq!((&history["ref"], &history["floor"], &history["head"]["seq"]), (&json!(5), &json!(1), &json!(12)));
        (seqs, history["more"].as_bool().unwrap())
    };
    assert_eq!(ask(json!({})).await, ((1..=12).collect(), false));
    assert_eq!(ask(json!({ "limit": 4 })).await, ((9..=12).collect(), true));
    assert_eq!(ask(json!({ "before": 9, "limit": 4 })).await, ((5..=8).collect(), true));
    assert_eq!(ask(json!({ "before": 3, "limit": 4 })).await, ((1..=2).collect(), false));
    assert_eq!(ask(json!({ "after": 5, "limit": 3 })).await, ((6..=8).collect(), true));
    assert_eq!(ask(json!({ "after": 12 })).await, (vec![], false));
}

/// Signals reach who is there, on every edge, and nobody else; they are stored nowhere.
#[tokio::test]
async fn signals_reach_the_others_in_the_room() {
    let stack = Stack::builder().edges(2).start().await;
    let mut alice = stack.client("alice", "a").await;
    let mut bob = stack.client_at("edge2", Format::MsgPack, "bob", "b").await;
    alice.join("hall", json!("now")).await;
    bob.join("hall", json!("now")).await;
    alice.send_frame(&json!({ "type": "signal", "room": "hall", "body": { "typing": true } })).await;
    let signal = bob.expect("signal").await;
    assert_eq!(signal, json!({ "type": "signal", "room": "hall", "user": "alice", "body": { "typing": true } }));
    let mut reader = Client::hello_at(stack.addr("edge"), Format::Json, &token("eve", &[("hall", "r")]), "e").await;
    reader.send_frame(&json!({ "type": "signal", "room": "hall", "body": 1 })).await;
    reader.expect_error("forbidden").await;
    alice.assert_none_waiting("signal");
    assert!(stack.logged("hall").await.is_empty());
}
