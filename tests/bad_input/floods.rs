//! Too much of what is allowed: pings, messages, mistakes, joins.

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::raw::{Got, PING, Raw, TEXT, masked};
use crate::support::{Client, Format, SECRET, Stack, now_s, token, token_of};
use crate::watch::{SLACK, beside};

/// Ten thousand pings and ten thousand `ping` frames at once are answered, and delay nobody.
#[tokio::test]
async fn ten_thousand_pings_are_answered() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut raw = Raw::welcomed(&addr, Format::Json, "pings").await;
        let mut writer = raw.take_writer();
        let writing = tokio::spawn(async move {
            for n in 0..10_000u32 {
                writer.write_all(&masked(PING, &n.to_be_bytes())).await.unwrap();
                writer.write_all(&masked(TEXT, format!(r#"{{"type":"ping","ref":{n}}}"#).as_bytes())).await.unwrap();
            }
            writer
        });
        let (mut control, mut frames) = (0, 0);
        while frames < 10_000 {
            match raw.next().await {
                Got::Frame(10, _) => control += 1,
                Got::Frame(1, payload) if payload.starts_with(br#"{"type":"pong""#) => {
                    let pong: Value = serde_json::from_slice(&payload).unwrap();
                    assert_eq!(pong["ref"], frames, "in order");
                    frames += 1;
                }
                Got::Frame(1, _) => {}
                other => panic!("{other:?} after {frames} pongs"),
            }
        }
        // A pong may answer several pings (RFC 6455, 5.5.3).
        assert!(control > 0);
        drop(writing.await.unwrap());
    })
    .await;
}

/// Who pings and reads no answers fills no memory: before `hello` it is closed, and after it nothing more is
/// read from it than it reads itself.
#[tokio::test]
async fn pings_whose_answers_are_not_read_are_not_held() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "1h").start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut pings = Vec::new();
        (0..1_000).for_each(|_| pings.extend(masked(PING, &[b'p'; 125])));
        let mut early = Raw::upgraded(&addr, Format::Json).await;
        let mut late = Raw::welcomed(&addr, Format::Json, "pings").await;
        let (mut writer, some) = (early.take_writer(), pings.clone());
        // It ends when the edge has closed; until then all is taken.
        let flood = tokio::spawn(async move { while writer.write_all(&some).await.is_ok() {} });
        flood.await.unwrap();
        let mut writer = late.take_writer();
        let (mut taken, patience) = (0, std::time::Duration::from_secs(3));
        while let Ok(written) = tokio::time::timeout(patience, writer.write_all(&pings)).await {
            written.unwrap();
            taken += pings.len();
            assert!(taken < 100 << 20, "all of it was taken");
        }
        // What was refused is not lost: it is read as soon as the answers are.
        for _ in 0..taken / pings.len() * 1_000 / 2 {
            if late.next().await == Got::End {
                panic!("closed");
            }
        }
    })
    .await;
}

/// A flood keeps nobody in whose time is over: the token's end is looked at between its frames.
#[tokio::test]
async fn a_flood_does_not_outlive_its_token() {
    let stack = Stack::builder().env("MILLSTREAM__AUTH__LEEWAY", "0s").start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let short = token_of(&json!({ "sub": "flood", "exp": now_s() + 3, "rooms": { "*": "rw" } }), SECRET);
        let mut raw = Raw::upgraded(&addr, Format::Json).await;
        raw.send(&json!({ "type": "hello", "token": short })).await;
        raw.answer("welcome").await;
        let mut writer = raw.take_writer();
        let flood = tokio::spawn(async move {
            // Pongs need no answer, so that reading never waits for writing.
            let mut pongs = Vec::new();
            (0..20_000).for_each(|_| pongs.extend(masked(0x8a, b"")));
            while writer.write_all(&pongs).await.is_ok() {}
        });
        assert_eq!(raw.close_frame().await, (vec!["unauthorized".to_owned()], 4500));
        drop(raw);
        flood.await.unwrap();
    })
    .await;
}

/// Ten thousand messages at once: the rate lets its share through, refuses the rest with the time to wait,
/// and closes who doesn't stop. What was answered `sent` is stored, once, and nothing else is.
#[tokio::test]
async fn ten_thousand_messages_at_once_are_limited() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let sent = beside(&stack, SLACK, async {
        let mut raw = Raw::welcomed(&addr, Format::Json, "writer").await;
        let mut writer = raw.take_writer();
        let writing = tokio::spawn(async move {
            for n in 0..10_000 {
                let frame = format!(r#"{{"type":"send","room":"flood","cid":"c{n}","body":{n}}}"#);
                if writer.write_all(&masked(TEXT, frame.as_bytes())).await.is_err() {
                    return;
                }
            }
        });
        let (mut sent, mut limited, mut unacked) = (Vec::new(), 0, 0);
        let code = loop {
            match raw.next().await {
                Got::Frame(1, payload) => {
                    let frame: Value = serde_json::from_slice(&payload).unwrap();
                    match (frame["type"].as_str(), frame["code"].as_str()) {
                        (Some("sent"), _) => sent.push(frame["cid"].as_str().unwrap().to_owned()),
                        (_, Some("rate_limited")) => {
                            assert!(frame["retry_after_ms"].as_u64().unwrap() >= 1 && frame["retryable"] == true);
                            limited += 1;
                        }
                        (_, Some("too_many_unacked")) => unacked += 1,
                        (_, Some(code)) => panic!("{code}: {frame}"),
                        _ => {}
                    }
                }
                Got::Frame(8, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                other => panic!("{other:?}"),
            }
        };
        drop(raw);
        writing.await.unwrap();
        assert_eq!((code, limited), (4290, 1_001), "{} sent, {unacked} too many under way", sent.len());
        sent
    })
    .await;
    let logged: Vec<String> = stack.logged("flood").await.into_iter().map(|(_, cid)| cid).collect();
    let mut once = logged.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), logged.len(), "nothing is stored twice");
    // The close may overtake answers, never the other way round.
    assert!(sent.iter().all(|cid| logged.contains(cid)), "everything that was answered is stored");
    assert!(logged.len() <= sent.len() + 64, "{} stored, {} answered", logged.len(), sent.len());
}

/// More histories at once than one connection may ask for are refused as `rate_limited`, and count towards the end like
/// sends: nobody answers here, so sixteen stay open and each one after them is refused.
#[tokio::test]
async fn histories_that_are_asked_for_without_end_close_the_connection() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__JOIN_TIMEOUT", "1h").start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut raw = Raw::welcomed(&addr, Format::Json, "historian").await;
        stack.process("replay").signal("STOP");
        let mut writer = raw.take_writer();
        let writing = tokio::spawn(async move {
            for n in 0..2_000 {
                let frame = format!(r#"{{"type":"history","room":"flood","ref":{n}}}"#);
                if writer.write_all(&masked(TEXT, frame.as_bytes())).await.is_err() {
                    return;
                }
            }
        });
        let mut refused = Vec::new();
        let code = loop {
            match raw.next().await {
                Got::Frame(1, payload) => {
                    let frame: Value = serde_json::from_slice(&payload).unwrap();
                    match (frame["type"].as_str(), frame["code"].as_str()) {
                        (Some("history"), _) => panic!("nobody can have answered: {frame}"),
                        (Some("error"), Some("rate_limited")) => {
                            assert!(frame["retry_after_ms"].as_u64().unwrap() >= 1 && frame["retryable"] == true);
                            refused.push(frame["ref"].as_u64().unwrap());
                        }
                        (Some("error"), _) => panic!("{frame}"),
                        _ => {}
                    }
                }
                Got::Frame(8, payload) => break u16::from_be_bytes([payload[0], payload[1]]),
                other => panic!("{other:?}"),
            }
        };
        drop(raw);
        writing.await.unwrap();
        assert_eq!((code, refused.len()), (4290, 1_001));
        assert!(refused.iter().copied().eq(16..1_017), "the first sixteen are under way: {refused:?}");
    })
    .await;
    stack.process("replay").signal("CONT");
}

/// Ten thousand mistakes at once: eleven are answered, the last with the end.
#[tokio::test]
async fn ten_thousand_bad_frames_are_answered_eleven_times() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        for format in [Format::Json, Format::MsgPack] {
            let mut raw = Raw::welcomed(&addr, format, "mistakes").await;
            let first = if format == Format::Json { TEXT } else { 0x82 };
            let mut bad = Vec::new();
            (0..10_000).for_each(|_| bad.extend(masked(first, b"[")));
            raw.write(&bad).await;
            assert_eq!(raw.closed().await, (vec!["bad_frame".to_owned(); 11], Some(4501)));
        }
    })
    .await;
}

/// More rooms than one connection may follow, more histories than it may ask for, joins and leaves in
/// a row: limits that pass, and the connection serves on.
#[tokio::test]
async fn joins_and_histories_without_end_have_limits() {
    let stack = Stack::builder().env("MILLSTREAM__LIMITS__ROOMS", "50").start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut client = Client::hello_at(&addr, Format::Json, &token("joiner", &[("*", "rw")]), "d").await;
        for n in 0..300 {
            client.send_frame(&json!({ "type": "join", "room": format!("room{n}"), "since": "now" })).await;
        }
        let (mut joined, mut refused) = (0, 0);
        while joined + refused < 300 {
            let frame = client.next_frame().await.expect("an answer");
            match (frame["type"].as_str(), frame["code"].as_str()) {
                (Some("joined"), _) if !frame["room"].as_str().unwrap().starts_with('@') => joined += 1,
                (Some("error"), Some("too_many_rooms")) => {
                    assert_eq!(frame["retryable"], true);
                    refused += 1;
                }
                (Some("error"), _) => panic!("{frame}"),
                _ => {}
            }
        }
        assert!(joined <= 50, "{joined} rooms joined, 50 are allowed");
        assert!(joined >= 48, "{joined} rooms joined: only the own two count besides");
        // The same room a hundred times is one room.
        for _ in 0..100 {
            client.send_frame(&json!({ "type": "join", "room": "room0", "since": "now" })).await;
            client.send_frame(&json!({ "type": "leave", "room": "room0" })).await;
        }
        for n in 0..200 {
            client.send_frame(&json!({ "type": "history", "room": "room1", "ref": n })).await;
        }
        let mut answered = 0;
        while answered < 200 {
            let frame = client.next_frame().await.expect("an answer");
            match (frame["type"].as_str(), frame["code"].as_str()) {
                (Some("history"), _) | (Some("error"), Some("rate_limited")) => answered += 1,
                (Some("error"), _) => panic!("{frame}"),
                _ => {}
            }
        }
        client.join("room0", json!("now")).await;
        client.send("room0", "c", json!("still works")).await;
    })
    .await;
}
