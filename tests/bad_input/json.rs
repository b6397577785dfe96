//! JSON that is none, or too much of it: each frame has the code of section 7, and the connection goes on.

use serde_json::json;

use crate::raw::{PING, Raw, TEXT, masked};
use crate::support::{Format, Stack};
use crate::watch::{SLACK, beside};

/// A `send` into room `r` with this in place of its body.
fn send(body: &str) -> String {
    format!(r#"{{"type":"send","room":"r","cid":"c","body":{body}}}"#)
}

/// A whole `send` with this in place of one field's value.
fn with(field: &str, value: &str) -> String {
    let fields = [("room", r#""r""#), ("cid", r#""c""#), ("body", "1"), ("kind", r#""k""#)];
    let fields = fields.map(|(name, own)| format!(r#""{name}":{}"#, if name == field { value } else { own }));
    format!(r#"{{"type":"send",{}}}"#, fields.join(","))
}

fn nested(depth: usize) -> String {
    format!("{}1{}", "[".repeat(depth), "]".repeat(depth))
}

/// Each frame on a connection of its own, which must serve afterwards.
async fn answered(addr: &str, what: &str, frame: &str, code: &str) {
    let mut raw = Raw::welcomed(addr, Format::Json, "json").await;
    assert!(raw.payload(frame.as_bytes()).await, "{what}");
    assert_eq!(raw.error().await, code, "{what}: {frame:.200}");
    raw.assert_alive().await;
}

/// Depth, numbers and lengths beyond all measure; the message limit is raised so that they come through.
#[tokio::test]
async fn what_is_deep_or_long_costs_nothing() {
    let stack = Stack::builder()
        .env("MILLSTREAM__LIMITS__MESSAGE_BYTES", (2 << 20).to_string())
        .env("MILLSTREAM__EDGE__OUTBOX_BYTES", (2 << 20).to_string())
        .start()
        .await;
    let addr = stack.addr("edge").to_owned();
    let digits = "9".repeat(1 << 20);
    let cases = [
        ("depth 100,000 in the body", send(&nested(100_000)), "bad_frame"),
        ("depth 100,000 in what is ignored", format!(r#"{{"type":"ping","x":{}}}"#, nested(100_000)), "bad_frame"),
        ("depth 100,000 of objects", r#"{"type":"#.repeat(100_000), "bad_frame"),
        ("depth 100,000 that never closes", "[".repeat(100_000), "bad_frame"),
        ("depth 33 in the body", send(&nested(33)), "bad_frame"),
        ("a number of 1 MB in the body", send(&digits), "bad_body"),
        ("a number of 1 MB behind a point", send(&format!("0.{digits}")), "bad_body"),
        ("an exponent of 1 MB", send(&format!("1e{digits}")), "bad_body"),
        ("a seq of 1 MB", format!(r#"{{"type":"ack","room":"r","seq":{digits}}}"#), "bad_seq"),
        ("a ref of 1 MB", format!(r#"{{"type":"ping","ref":{digits}}}"#), "bad_frame"),
        ("a limit of 1 MB", format!(r#"{{"type":"history","room":"r","limit":{digits}}}"#), "bad_frame"),
        ("a string of 1 MB", send(&format!(r#""{digits}""#)), "too_large"),
        ("a room of 1 MB", format!(r#"{{"type":"join","room":"{digits}"}}"#), "bad_room"),
        ("a cid of 1 MB", format!(r#"{{"type":"send","room":"r","cid":"{digits}","body":1}}"#), "bad_cid"),
        ("a type of 1 MB", format!(r#"{{"type":"{digits}"}}"#), "unknown_type"),
        ("a name of 1 MB", format!(r#"{{"{digits}":1,"type":"dance"}}"#), "unknown_type"),
        ("1 MB of white space", send(&format!("{} x", " ".repeat(1 << 20))), "bad_frame"),
        ("300,000 items", send(&format!("[{}1]", "1,".repeat(300_000))), "too_large"),
        ("100,000 names", send(&format!("{{{}\"a\":1}}", "\"a\":1,".repeat(100_000))), "too_large"),
        ("escapes of 1 MB", send(&format!(r#""{}""#, "\\u0041".repeat(170_000))), "too_large"),
    ];
    beside(&stack, 2 * SLACK, async {
        for (what, frame, code) in &cases {
            answered(&addr, what, frame, code).await;
        }
        let mut raw = Raw::welcomed(&addr, Format::Json, "json").await;
        raw.payload(format!(r#"{{"type":"ping","ref":1,"x":{digits},"y":[1e999999]}}"#).as_bytes()).await;
        assert_eq!(raw.answer("pong").await["ref"], 1, "what a type doesn't know is ignored, whatever it holds");
    })
    .await;
    assert!(stack.log("r").await.is_empty());
}

/// Values that one of JSON's many readers would take for something else.
#[tokio::test]
async fn what_is_ambiguous_is_refused() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let file = |url: &str, name: &str| with("kind", &format!(r#""k","file":{{"url":"{url}","name":"{name}"}}"#));
    let seq = |seq: &str| format!(r#"{{"type":"ack","room":"r","seq":{seq}}}"#);
    let since = |since: &str| format!(r#"{{"type":"join","room":"r","since":{since}}}"#);
    let cases = [
        (r#"{"type":"ping","type":"ping"}"#.to_owned(), "bad_frame"),
        (with("room", r#""r","room":"s""#), "bad_frame"),
        (with("cid", r#""c","cid":"d""#), "bad_frame"),
        (with("body", r#"1,"body":2"#), "bad_frame"),
        (with("body", r#"1,"b\u006fdy":2"#), "bad_frame"),
        (with("body", r#""\ud800""#), "bad_body"),
        (with("body", r#"{"\udfff":1}"#), "bad_body"),
        (with("body", r#"["\ud800\ud800"]"#), "bad_body"),
        (with("room", r#""\ud800""#), "bad_frame"),
        (with("cid", r#""\ud800""#), "bad_frame"),
        (with("kind", r#""\udc00""#), "bad_frame"),
        (r#"{"type":"\ud800"}"#.into(), "bad_frame"),
        (r#"{"type":"ping","ref":"\ud800"}"#.into(), "bad_frame"),
        (with("body", r#""a\u0000""#), "bad_body"),
        (with("body", r#"{"\u0000":1}"#), "bad_body"),
        (with("room", r#""r\u0000""#), "bad_room"),
        (with("cid", r#""c\u0000""#), "bad_cid"),
        (with("kind", r#""k\u0000""#), "bad_frame"),
        (file(r"u\u0000", "n"), "bad_frame"),
        (file("u", r"n\u0000"), "bad_frame"),
        (with("body", "\"a raw \u{0} one\""), "bad_frame"),
        (with("body", "1e999999"), "bad_body"),
        (with("body", "-1e999999"), "bad_body"),
        (with("body", "1e-999999999999999999999"), "bad_body"),
        (with("body", "NaN"), "bad_frame"),
        (with("body", "Infinity"), "bad_frame"),
        (with("body", "01"), "bad_frame"),
        (with("body", "+1"), "bad_frame"),
        (with("body", "0x10"), "bad_frame"),
        (with("body", "'text'"), "bad_frame"),
        (with("body", "[1,]"), "bad_frame"),
        (with("body", "1 /* one */"), "bad_frame"),
        (seq("18446744073709551616"), "bad_seq"),
        (seq("1e999999"), "bad_seq"),
        (seq("-1"), "bad_seq"),
        (seq("1.0"), "bad_seq"),
        (seq("null"), "bad_frame"),
        (r#"{"type":"history","room":"r","before":18446744073709551616}"#.into(), "bad_seq"),
        (r#"{"type":"history","room":"r","limit":1e3}"#.into(), "bad_frame"),
        (since(r#"{"last":1e3}"#), "bad_frame"),
        (since(r#"{"last":1001}"#), "bad_frame"),
        (since(r#"{"id":"18446744073709551616-0","seq":1}"#), "bad_frame"),
        (since(r#"{"id":"1-0","seq":18446744073709551616}"#), "bad_frame"),
        (since(r#"{"id":"1-0","seq":1e999999}"#), "bad_frame"),
        (since(r#"{"id":"+1-0","seq":1}"#), "bad_frame"),
        (since(r#"{"id":"1-0","seq":1,"seq":1}"#), "bad_frame"),
        ("\u{feff}{\"type\":\"ping\"}".into(), "bad_frame"),
        (r#"{"type":"ping"}{"type":"ping"}"#.into(), "bad_frame"),
        (String::new(), "bad_frame"),
    ];
    beside(&stack, SLACK, async {
        for (n, (frame, code)) in cases.iter().enumerate() {
            answered(&addr, &format!("case {n}"), frame, code).await;
        }
    })
    .await;
    assert!(stack.log("r").await.is_empty(), "nothing of it was accepted");
}

/// The largest and the smallest seqs and ids are arithmetic for nobody: they are refused, or answered
/// with what there is, by the edge and by the replay workers.
#[tokio::test]
async fn extreme_cursors_are_answered() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let max = u64::MAX;
    let ids = ["0-0", "0-1", "1-18446744073709551615", "18446744073709551615-18446744073709551615"];
    beside(&stack, SLACK, async {
        let mut raw = Raw::welcomed(&addr, Format::Json, "extreme").await;
        for n in 1..=3 {
            let send = format!(r#"{{"type":"send","room":"r","cid":"c{n}","body":{n}}}"#);
            raw.until_sent(&masked(TEXT, send.as_bytes())).await;
        }
        for id in ids {
            for seq in [0, 1, 3, i64::MAX as u64, i64::MAX as u64 + 1, max - 1, max] {
                raw.send(&json!({ "type": "join", "room": "r", "since": { "id": id, "seq": seq } })).await;
                let joined = raw.answer_in("r", "joined").await;
                assert!(joined["since"]["seq"].as_u64().unwrap() <= 3, "{id},{seq}: {joined}");
                assert_eq!(joined["head"]["seq"], 3, "{id},{seq}: {joined}");
                assert_eq!(raw.answer_in("r", "live").await["seq"], 3, "{id},{seq}");
                for beyond in [4, i64::MAX as u64, max] {
                    raw.send(&json!({ "type": "ack", "room": "r", "seq": beyond })).await;
                    assert_eq!(raw.error().await, "bad_seq", "{id},{seq}");
                }
            }
        }
        for field in ["before", "after"] {
            for seq in [0, 1, 2, 4, i64::MAX as u64, i64::MAX as u64 + 1, max] {
                raw.send(&json!({ "type": "history", "room": "r", field: seq, "limit": max })).await;
                let history = raw.answer("history").await;
                let seqs = |entry: &serde_json::Value| entry["type"] == "message";
                let found = history["entries"].as_array().unwrap().iter().filter(|entry| seqs(entry)).count() as u64;
                let expected = if field == "before" { seq.clamp(1, 4) - 1 } else { 3 - seq.min(3) };
                assert_eq!(found, expected, "{field} {seq}: {history}");
            }
        }
        raw.frame(PING, b"").await;
        raw.assert_alive().await;
    })
    .await;
    for process in ["edge", "replay", "archive"] {
        assert!(!stack.process(process).stderr().contains("panicked"), "{}", stack.process(process).stderr());
    }
}
