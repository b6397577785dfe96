//! Holds `docs/protocol.md` to its word: every example in it is what the code reads and writes.

use super::examples::{Examples, SHORT_KEYS, from_hex, json};
use super::{ClientFrame, ErrorCode, Subprotocol, check_body, close, decode, payload};

const PAGE: &str = include_str!("../../docs/protocol.md");

/// A fenced block of the page, and the MessagePack that may follow it.
struct Example {
    json: String,
    msgpack: Option<Vec<u8>>,
}

/// The text from this heading to the next of its level.
fn section(heading: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!("\n## {heading}")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

fn examples(heading: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    for block in section(heading).split("\n```").skip(1) {
        if let Some(json) = block.strip_prefix("json\n") {
            let json = check_body(json, usize::MAX).unwrap_or_else(|fault| panic!("{json}: {}", fault.message));
            found.push(Example { json: json.into_owned(), msgpack: None });
        } else if let Some(hex) = block.strip_prefix("hex\n") {
            found.last_mut().expect("MessagePack follows JSON").msgpack = Some(from_hex(hex));
        }
    }
    found
}

#[test]
fn every_client_example_decodes_in_both_encodings() {
    let mut types = Vec::new();
    for example in examples("3.") {
        let request = decode(Subprotocol::Json, example.json.as_bytes(), 32 << 10)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", example.json));
        if let Some(msgpack) = &example.msgpack {
            assert_eq!(decode(Subprotocol::MsgPack, msgpack, 32 << 10).as_ref(), Ok(&request), "{}", example.json);
        }
        types.push(request.frame.type_name());
        if let ClientFrame::Send(send) = request.frame {
            assert!(example.json.contains(&*send.body), "the example's body is compact");
        }
    }
    types.dedup();
    let all = "hello join leave send ack read signal history presence refresh ping";
    assert_eq!(types.join(" "), all, "an example of each frame, in the order of the table");
}

#[test]
fn every_server_example_is_what_the_server_writes() {
    let (examples, frames) = (examples("4."), Examples::new());
    for (example, frame) in examples.iter().zip(frames.server()) {
        assert_eq!(example.json, json(&frame));
        if let Some(msgpack) = &example.msgpack {
            assert_eq!(msgpack[..], payload(Subprotocol::MsgPack, &frame).unwrap(), "{}", example.json);
        }
    }
    assert_eq!(examples.len(), frames.server().len(), "each example frame stands on the page, and no other");
}

#[test]
fn at_least_three_examples_show_messagepack() {
    let shown = |heading| examples(heading).iter().filter(|example| example.msgpack.is_some()).count();
    assert!(shown("3.") >= 2 && shown("4.") >= 2);
}

#[test]
fn the_table_of_keys_is_the_one_that_the_tests_use() {
    let cells = |row: &'static str| row.split('|').skip(2).map(|cell| cell.trim_matches([' ', '`']));
    let mut rows = section("6.").lines().filter(|line| line.starts_with('|'));
    let (json, msgpack) = (rows.next().unwrap(), rows.nth(1).unwrap());
    let shown: Vec<_> = cells(json).zip(cells(msgpack)).filter(|(long, _)| !long.is_empty()).collect();
    let used: Vec<_> = SHORT_KEYS.into_iter().filter(|(_, short)| !short.is_empty()).collect();
    assert_eq!(shown, used);
}

#[test]
fn the_table_of_errors_is_the_enum() {
    let section = section("7.");
    for code in ErrorCode::ALL {
        let row = section.lines().find(|line| line.starts_with('|') && line.contains(&format!("`{code}`")));
        let row = row.unwrap_or_else(|| panic!("no row of {code}"));
        let retryable = row.split('|').nth(2).unwrap().trim();
        assert_eq!(retryable.starts_with("yes"), code.retryable(), "{row}");
    }
    for code in [
        close::NORMAL,
        close::GOING_AWAY,
        close::WRONG_FRAME_KIND,
        close::BAD_UTF8,
        close::TOO_BIG,
        close::RESTART,
        close::NO_HELLO,
        close::NO_HEARTBEAT,
        close::STALLED,
        close::TOO_MANY_RATE_LIMITED,
        close::BAD_TOKEN,
        close::PROTOCOL_ERRORS,
        close::REPLACED,
        close::DISCONNECTED,
    ] {
        assert!(section.contains(&format!("{code}")), "no row of {code}");
    }
}
