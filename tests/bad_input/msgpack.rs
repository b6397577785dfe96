//! MessagePack that lies about its lengths, nests without end or holds what JSON has not.

use serde_json::json;

use crate::raw::Raw;
use crate::support::{Format, Stack};
use crate::watch::{SLACK, beside};

/// `{"t": "send", "r": "r", "c": "c", "b": <body>}`
fn send(body: &[u8]) -> Vec<u8> {
    [&b"\x84\xa1t\xa4send\xa1r\xa1r\xa1c\xa1c\xa1b"[..], body].concat()
}

/// `{"t": "ping", <key>: <value>}`
fn ping_with(key: &[u8], value: &[u8]) -> Vec<u8> {
    [&b"\x82\xa1t\xa4ping"[..], key, value].concat()
}

fn nested(depth: usize) -> Vec<u8> {
    [vec![0x91; depth], vec![0xc0]].concat()
}

/// Lengths that are announced and don't follow, as a whole frame and wherever a value may stand.
fn announced() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let claim = |marker: u8| vec![marker, 255, 255, 255, 255];
    let mut cases = Vec::new();
    for (what, marker) in [
        ("an array of 2^32", 0xdd),
        ("a map of 2^32", 0xdf),
        ("a string of 2^32", 0xdb),
        ("bytes of 2^32", 0xc6),
        ("an extension of 2^32", 0xc9),
    ] {
        cases.push((what, claim(marker), "bad_frame"));
        cases.push((what, send(&claim(marker)), "bad_frame"));
        cases.push((what, send(&[&claim(marker)[..], &[0; 60_000]].concat()), "bad_frame"));
        cases.push((what, ping_with(&claim(marker), b"\xc0"), "bad_frame"));
        cases.push((what, ping_with(b"\xa1r", &claim(marker)), "bad_frame"));
    }
    cases
}

/// Each frame on a connection of its own, which must serve afterwards.
#[tokio::test]
async fn msgpack_outside_the_rules_is_refused() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let mut cases = announced();
    cases.extend([
        ("arrays 700 deep", send(&nested(700)), "bad_frame"),
        ("arrays 60,000 deep", send(&nested(60_000)), "bad_frame"),
        ("arrays 700 deep in what is ignored", ping_with(b"\xa1y", &nested(700)), "bad_frame"),
        ("arrays 700 deep as a key", ping_with(&nested(700), b"\xc0"), "bad_frame"),
        ("arrays 33 deep", send(&nested(33)), "bad_frame"),
        ("an extension as the body", send(b"\xd4\x01\x00"), "bad_body"),
        ("a time as the body", send(b"\xd6\xff\x00\x00\x00\x00"), "bad_body"),
        ("bytes as the body", send(b"\xc4\x01\x00"), "bad_body"),
        ("an extension as the room", b"\x82\xa1t\xa4join\xa1r\xd4\x01\x00".to_vec(), "bad_frame"),
        ("bytes as the room", b"\x82\xa1t\xa4join\xa1r\xc4\x01r".to_vec(), "bad_frame"),
        ("bytes as the type", b"\x81\xa1t\xc4\x04ping".to_vec(), "bad_frame"),
        ("a room that is no text", b"\x82\xa1t\xa4join\xa1r\xa1\xff".to_vec(), "bad_frame"),
        (
            "a float as the seq",
            b"\x83\xa1t\xa3ack\xa1r\xa1r\xa1s\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00".to_vec(),
            "bad_seq",
        ),
        ("a seq below 0", b"\x83\xa1t\xa3ack\xa1r\xa1r\xa1s\xff".to_vec(), "bad_seq"),
        ("no number", send(b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "bad_body"),
        ("infinity", send(b"\xca\x7f\x80\x00\x00"), "bad_body"),
        ("text that is no text", send(b"\xa1\xff"), "bad_body"),
        ("U+0000", send(b"\xa2a\x00"), "bad_body"),
        ("U+0000 as a key", send(b"\x81\xa1\x00\x01"), "bad_body"),
        ("a number as a key in the body", send(b"\x81\x01\x01"), "bad_body"),
        ("a key twice", b"\x82\xa1t\xa4ping\xa1t\xa4ping".to_vec(), "bad_frame"),
        ("bytes after the frame", [&b"\x81\xa1t\xa4ping"[..], b"\xc0"].concat(), "bad_frame"),
        ("two frames in one message", b"\x81\xa1t\xa4ping\x81\xa1t\xa4ping".to_vec(), "bad_frame"),
        ("a frame cut short", b"\x82\xa1t\xa4ping\xa1".to_vec(), "bad_frame"),
        ("the reserved byte", b"\xc1".to_vec(), "bad_frame"),
        ("JSON", br#"{"type":"ping"}"#.to_vec(), "bad_frame"),
        ("nothing", Vec::new(), "bad_frame"),
        ("U+0000 in the room", b"\x82\xa1t\xa4join\xa1r\xa2r\x00".to_vec(), "bad_room"),
    ]);
    beside(&stack, SLACK, async {
        for (what, frame, code) in &cases {
            let mut raw = Raw::welcomed(&addr, Format::MsgPack, "msgpack").await;
            assert!(raw.payload(frame).await, "{what}");
            assert_eq!(raw.error().await, *code, "{what}: {:x?}", &frame[..frame.len().min(40)]);
            raw.assert_alive().await;
        }
        // Keys that are no text are unknown fields: ignored, like what they hold.
        let mut raw = Raw::welcomed(&addr, Format::MsgPack, "msgpack").await;
        for key in [
            &b"\x05"[..],
            b"\xc0",
            b"\xc3",
            b"\xcb\x00\x00\x00\x00\x00\x00\x00\x00",
            b"\xc4\x01t",
            b"\x91\x01",
            b"\xd4\x01\x00",
        ] {
            raw.payload(&ping_with(key, b"\xd4\x01\x00")).await;
            raw.answer("pong").await;
        }
        raw.send(&json!({ "type": "join", "room": "fine", "since": "now" })).await;
        raw.answer_in("fine", "live").await;
    })
    .await;
    assert!(stack.log("r").await.is_empty(), "nothing of it was accepted");
}
