//! Names that people choose: of rooms, of users, of devices. They reach no key, no log line and no
//! metric but as what they are.

use serde_json::{Value, json};

use crate::raw::Raw;
use crate::support::{API_KEY, Client, Format, SECRET, Stack, get, now_s, post, token_of, wait_until};
use crate::watch::{SLACK, beside};

/// What a room may not be called, in every frame that names one.
#[tokio::test]
async fn rooms_outside_the_rules_are_refused_in_every_frame() {
    let stack = Stack::start().await;
    let long = "r".repeat(129);
    let bad = ["", " ", "a b", "a\u{0}", "a\n", "ü", "a*", "a{1}", "%00", "a\\b", "a\u{202e}b", long.as_str()];
    let system = ["@user:other", "@user:", "@users", "@all/../hall", "@", "@@all", "@user-x:other"];
    let frames = |room: &str| {
        let frame = |kind: &str, more: Value| {
            let mut frame = json!({ "type": kind, "room": room });
            frame.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            frame
        };
        vec![
            frame("send", json!({ "cid": "c", "body": 1 })),
            frame("signal", json!({ "body": 1 })),
            frame("join", json!({ "since": "start" })),
            frame("history", json!({})),
            frame("ack", json!({ "seq": 0 })),
            frame("read", json!({ "seq": 0 })),
            frame("leave", json!({})),
        ]
    };
    beside(&stack, SLACK, async {
        for format in [Format::Json, Format::MsgPack] {
            let mut client = stack.client_at("edge", format, "alice", "d").await;
            for room in bad {
                for frame in frames(room) {
                    client.send_frame(&frame).await;
                    let error = client.expect_error("bad_room").await;
                    // What is within the length is repeated, so that the client knows which it was.
                    assert!(error["room"].is_null() || error["room"] == room, "{error}");
                }
            }
            for room in system {
                for frame in &frames(room)[..4] {
                    client.send_frame(frame).await;
                    client.expect_error("forbidden").await;
                }
                for frame in &frames(room)[4..6] {
                    client.send_frame(frame).await;
                    client.expect_error("not_joined").await;
                }
            }
            for own in ["@all", "@user:alice"] {
                for frame in &frames(own)[..2] {
                    client.send_frame(frame).await;
                    client.expect_error("forbidden").await;
                }
            }
            client.send("hall", &format!("c{format:?}"), json!("still works")).await;
        }
    })
    .await;
}

/// A user whose name ends lines, colours terminals and looks like keys of ours: it is delivered as it is,
/// and written nowhere as it is.
#[tokio::test]
async fn a_name_with_control_sequences_forges_nothing() {
    let mut stack = Stack::builder()
        .workers(&["archive", "replay", "api"])
        .env("MILLSTREAM__LOG__LEVEL", "debug,fred=info,sqlx=info,hyper=info")
        .start()
        .await;
    stack.add("edge2", "edge", &[("MILLSTREAM__LOG__FORMAT", "json")]);
    stack.process("edge2").ready().await;
    let user = "mallory\r\nERROR forged \u{1b}[31mred\u{9b}1m\u{202e} {9}:log";
    let device = "d\n\u{1b}]0;title\u{7}%:/{1}";
    let token = token_of(&json!({ "sub": user, "exp": now_s() + 600, "rooms": { "*": "rw" } }), SECRET);
    let mut last = None;
    // From one edge to the other and back: the device is taken over, which its keys have to do.
    for edge in ["edge", "edge2", "edge"] {
        let mut next = Client::connect(stack.addr(edge), Format::Json).await;
        let client = format!("{user} 1.0");
        next.send_frame(&json!({ "type": "hello", "token": token, "device": device, "client": client })).await;
        let welcome = next.expect("welcome").await;
        assert_eq!((&welcome["user"], &welcome["device"]), (&json!(user), &json!(device)));
        next.join("hall", json!("start")).await;
        next.send("hall", &format!("{edge}\n\u{1b}"), json!("\u{1b}[0m\n")).await;
        let seq = stack.logged("hall").await.len() as u64;
        next.delivered_up_to("hall", seq).await;
        next.ack_delivered("hall").await;
        next.send_frame(&json!({ "type": "ack", "room": "hall", "seq": u64::MAX })).await;
        next.expect_error("bad_seq").await;
        next.send_frame(&json!({ "type": user, "ref": "\n\u{1b}" })).await;
        assert_eq!(next.expect_error("unknown_type").await["ref"], "\n\u{1b}");
        last = Some(next);
    }
    let mut last = last.unwrap();
    for entry in last.account("hall").iter().filter(|entry| entry["type"] == "message") {
        assert_eq!(entry["user"], user);
    }
    let path: String = user.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let told =
        post(stack.addr("api"), &format!("/api/v1/users/{path}/disconnect"), &[("x-api-key", API_KEY)], "").await;
    assert_eq!(told.0, 200, "{told:?}");
    assert_eq!(last.closed().await.0, 4505);
    wait_until("it is archived", async || stack.archived("hall").await.len() == 2).await;

    for process in ["edge", "edge2", "archive", "replay", "api"] {
        let (out, err) = (stack.process(process).stdout(), stack.process(process).stderr());
        for text in [&out, &err] {
            let raw = |c: &char| c.is_control() && *c != '\n' || *c == '\u{202e}';
            assert_eq!(text.chars().find(raw), None, "{process}: {text}");
            assert!(!text.lines().any(|line| line.starts_with("ERROR forged")), "{process}: {text}");
        }
        let (_, metrics) = get(stack.metrics_addr(process), "/metrics", &[]).await;
        assert!(!metrics.is_empty());
        for word in ["mallory", "\"hall", "forged", "title"] {
            let labelled = |line: &&str| !line.starts_with('#') && line.contains(word);
            assert_eq!(metrics.lines().find(labelled), None, "{process}");
        }
    }
}

/// A device whose name looks like another user's keys reads and writes only its own.
#[tokio::test]
async fn a_device_reaches_no_other_users_keys() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__CURSOR_INTERVAL", "100ms").start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut victim = stack.client("bob", "phone").await;
        victim.join("hall", json!("start")).await;
        victim.send("hall", "c1", json!(1)).await;
        // As the keys are put together, `a` with the device `b:c` and `a:b` with the device `c` must differ.
        let pairs = [("a", "b:c"), ("a:b", "c"), ("a", "b/c"), ("a/b", "c"), ("a", "b%3Ac"), ("a", "b%2Fc")];
        for (n, (user, device)) in pairs.iter().enumerate() {
            let mut client = stack.client(user, device).await;
            let joined = client.join("hall", json!("saved")).await;
            assert_eq!(joined["resume"], "fresh", "{user} {device}: {joined}");
            client.delivered_up_to("hall", 1 + n as u64).await;
            // The same cid everywhere: every device has a memory of its own.
            assert_eq!(client.send("hall", "same", json!(n)).await["duplicate"], false, "{user} {device}");
            client.delivered_up_to("hall", 2 + n as u64).await;
            client.ack_delivered("hall").await;
            client.close().await;
        }
        let mut raw = Raw::welcomed(&addr, Format::Json, "bob").await;
        raw.assert_alive().await;
        victim.delivered_up_to("hall", 1 + pairs.len() as u64).await;
    })
    .await;
}
