//! Section 7: every code of an `error`, each answered to the frame that earned it.

use serde_json::{Value, json};

use crate::support::{Client, Format, Stack, get, token};

/// What a frame is answered: the code, and whether it may be sent again.
async fn refusal(client: &mut Client, frame: Value) -> (String, bool) {
    client.send_frame(&frame).await;
    let error = client.expect("error").await;
    assert_eq!(error.get("ref"), frame.get("ref"), "{frame} → {error}");
    assert!(!error["message"].as_str().unwrap().is_empty());
    (error["code"].as_str().unwrap().to_owned(), error["retryable"].as_bool().unwrap())
}

/// Frames outside the rules, in both subprotocols; the connection goes on.
#[tokio::test]
async fn each_mistake_has_its_code_and_harms_nobody() {
    let stack = Stack::start().await;
    let granted = token("alice", &[("team:*", "rw"), ("lobby", "r")]);
    for format in [Format::Json, Format::MsgPack] {
        let mut client = Client::hello_at(stack.addr("edge"), format, &granted, "d").await;
        client.join("team:a", json!("now")).await;
        let send = |room: &str, cid: &str, body: Value| json!({ "type": "send", "ref": cid.chars().take(9).collect::<String>(), "room": room, "cid": cid, "body": body });
        let long = "x".repeat(40_000);
        let cases = [
            ("unknown_type", json!({ "type": "dance", "ref": 1 })),
            ("unknown_type", json!({ "type": "presence", "ref": 2, "room": "lobby" })),
            ("bad_frame", json!({ "type": "join", "ref": 3, "room": 7 })),
            ("bad_frame", json!({ "type": "history", "ref": 4, "room": "lobby", "before": 1, "after": 1 })),
            ("bad_frame", json!({ "type": "join", "ref": 5, "room": "lobby", "since": "yesterday" })),
            ("bad_room", json!({ "type": "join", "ref": 6, "room": "with space" })),
            ("bad_room", send(&"r".repeat(129), "c", json!(1))),
            ("bad_cid", send("team:a", "", json!(1))),
            ("bad_cid", send("team:a", &"c".repeat(65), json!(1))),
            ("bad_body", send("team:a", "nul", json!("a\u{0}b"))),
            ("too_large", send("team:a", "large", json!(long))),
            ("too_large", json!({ "type": "signal", "room": "team:a", "body": "x".repeat(1_100) })),
            ("forbidden", send("lobby", "c", json!(1))),
            ("forbidden", json!({ "type": "join", "ref": 7, "room": "elsewhere" })),
            ("forbidden", json!({ "type": "join", "ref": 8, "room": "@user:bob" })),
            ("forbidden", send("@all", "c", json!(1))),
            ("forbidden", json!({ "type": "history", "ref": 9, "room": "elsewhere" })),
            ("not_joined", json!({ "type": "ack", "room": "lobby", "seq": 1 })),
            ("not_joined", json!({ "type": "read", "room": "lobby", "seq": 1 })),
            ("bad_seq", json!({ "type": "ack", "room": "team:a", "seq": 999_999 })),
        ];
        for (code, frame) in cases {
            assert_eq!(refusal(&mut client, frame.clone()).await, (code.to_owned(), false), "{format:?} {frame}");
        }
        client.send("team:a", &format!("fine{format:?}"), json!("still works")).await;
    }
}

/// The same cid for something else, and for the same thing again.
#[tokio::test]
async fn a_cid_is_good_for_one_message() {
    let stack = Stack::start().await;
    let mut client = stack.client("alice", "d").await;
    let first = client.send("hall", "c1", json!({ "a": 1 })).await;
    assert_eq!(first["duplicate"], false);
    let again = client.send("hall", "c1", json!({ "a": 1 })).await;
    assert_eq!((&again["duplicate"], &again["id"], &again["seq"]), (&json!(true), &first["id"], &first["seq"]));
    let other = json!({ "type": "send", "ref": 1, "room": "hall", "cid": "c1", "body": { "a": 2 } });
    assert_eq!(refusal(&mut client, other).await, ("cid_conflict".into(), false));
    let other = json!({ "type": "send", "ref": 2, "room": "hall", "cid": "c1", "kind": "k", "body": { "a": 1 } });
    assert_eq!(refusal(&mut client, other).await, ("cid_conflict".into(), false));
    // Another device has cids of its own.
    let mut other = stack.client("alice", "e").await;
    assert_eq!(other.send("hall", "c1", json!({ "a": 2 })).await["duplicate"], false);
    // Many messages later it is known all the same: the last 64 are.
    for n in 0..63 {
        client.send("hall", &format!("more{n}"), json!(n)).await;
    }
    assert_eq!(client.send("hall", "c1", json!({ "a": 1 })).await["seq"], first["seq"]);
    assert_eq!(stack.logged("hall").await.len(), 65);
}

/// Limits that pass: too many rooms, too many sends under way, too fast.
#[tokio::test]
async fn limits_that_pass_are_retryable() {
    let stack = Stack::builder()
        .env("MILLSTREAM__LIMITS__ROOMS", "2")
        .env("MILLSTREAM__LIMITS__UNACKED_SENDS", "1")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "5")
        .env("MILLSTREAM__LIMITS__SEND_BURST", "5")
        .start()
        .await;
    let mut client = stack.client("alice", "d").await;
    client.join("one", json!("now")).await;
    client.join("two", json!("now")).await;
    let third = json!({ "type": "join", "ref": 1, "room": "three" });
    assert_eq!(refusal(&mut client, third).await, ("too_many_rooms".into(), true));
    let mut codes = Vec::new();
    for n in 0..40 {
        client.send_frame(&json!({ "type": "send", "room": "one", "cid": format!("c{n}"), "body": n })).await;
    }
    let mut answers = 0;
    while answers < 40 {
        let frame = client.next_frame().await.expect("an answer");
        match frame["type"].as_str().unwrap() {
            "error" => {
                assert_eq!(frame["retryable"], true);
                if frame["code"] == "rate_limited" {
                    assert!(frame["retry_after_ms"].as_u64().unwrap() >= 1, "{frame}");
                }
                codes.push(frame["code"].as_str().unwrap().to_owned());
                answers += 1;
            }
            "sent" => answers += 1,
            _ => {}
        }
    }
    assert!(codes.contains(&"rate_limited".to_owned()), "{codes:?}");
    assert!(codes.contains(&"too_many_unacked".to_owned()), "{codes:?}");
}

/// A closed room takes nothing more, and puts out who follows it.
#[tokio::test]
async fn a_closed_room_refuses_messages_and_is_left_by_all() {
    let stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let mut client = stack.client("alice", "d").await;
    client.join("hall", json!("now")).await;
    client.send("hall", "c1", json!(1)).await;
    let api = stack.addr("api");
    assert_eq!(post(api, "/api/v1/rooms/hall/close").await, 200);
    let event = client.expect_in("event", "hall").await;
    assert_eq!(event["event"], "room_closed", "everything up to there is delivered first");
    assert_eq!(client.expect("left").await["reason"], "room_closed");
    let late = json!({ "type": "send", "ref": 1, "room": "hall", "cid": "c2", "body": 2 });
    assert_eq!(refusal(&mut client, late).await, ("room_closed".into(), false));
    // Who was away gets what was accepted before, and is put out then.
    let mut late = stack.client("bob", "late").await;
    late.join("hall", json!("start")).await;
    assert_eq!(late.bodies("hall"), [json!(1)]);
    assert_eq!(late.expect("left").await["reason"], "room_closed");
    assert_eq!(client.send("hall", "c1", json!(1)).await["duplicate"], true, "what was accepted before is known");
    assert_eq!(get(api, "/api/v1/groups", &[]).await.0, 401, "without the key");
}

/// While Redis is away, sends are refused for now, and found or stored by the repeat.
#[tokio::test]
async fn without_redis_a_send_is_unavailable() {
    let stack = Stack::builder()
        .redis(crate::support::Redis::start(&[]).await)
        .env("MILLSTREAM__EDGE__PUBLISH_RETRY", "300ms")
        .start()
        .await;
    let mut client = stack.client("alice", "d").await;
    client.send("hall", "c1", json!(1)).await;
    stack.redis().freeze();
    let frame = json!({ "type": "send", "ref": 1, "room": "hall", "cid": "c2", "body": 2 });
    assert_eq!(refusal(&mut client, frame).await, ("unavailable".into(), true));
    stack.redis().thaw();
    client.send_until_sent("hall", "c2", json!(2)).await;
    assert_eq!(stack.logged("hall").await.len(), 2, "stored once");
}

async fn post(addr: &str, path: &str) -> u16 {
    let client = crate::support::post(addr, path, &[("x-api-key", crate::support::API_KEY)], "").await;
    client.0
}
