use proptest::prelude::*;
use serde_json::{Value, json};

use crate::error::Kind;
use crate::model::{Entry, EntryId, EntryKind, Room};
use crate::protocol::examples::{Examples, json, message_entry, short_keys};
use crate::protocol::{ErrorCode, Refusal, RequestRef, ServerFrame, Subprotocol, append, payload};

fn msgpack(frame: &ServerFrame<'_>) -> Value {
    let payload = payload(Subprotocol::MsgPack, frame).unwrap();
    rmp_serde::from_slice(&payload).unwrap_or_else(|e| panic!("{frame:?}: {e}"))
}

/// One description, two encodings: short keys and no `at` are the only differences.
#[test]
fn both_encodings_of_every_frame_say_the_same() {
    for frame in Examples::new().server() {
        let json: Value = serde_json::from_str(&json(&frame)).unwrap();
        assert_eq!(json["type"], frame.type_name());
        assert_eq!(msgpack(&frame), short_keys(&json));
    }
}

#[test]
fn json_frames_are_exactly_this_text() {
    let entry = message_entry(r#"{"text":"a/b \"é\u2028"}"#);
    assert_eq!(
        json(&ServerFrame::Entry(&entry)),
        r#"{"type":"message","room":"lobby","id":"1700000000000-0","seq":42,"user":"alice","device":"phone","cid":"c1","kind":"text","body":{"text":"a/b \"é\u2028"},"at":1700000000000}"#
    );
    let entries = [entry];
    assert_eq!(
        json(&ServerFrame::Replay { room: "lobby", entries: &entries, more: false }),
        r#"{"type":"replay","room":"lobby","entries":[{"type":"message","id":"1700000000000-0","seq":42,"user":"alice","device":"phone","cid":"c1","kind":"text","body":{"text":"a/b \"é\u2028"},"at":1700000000000}],"more":false}"#
    );
    assert_eq!(
        json(&ServerFrame::Replay { room: "lobby", entries: &[], more: true }),
        r#"{"type":"replay","room":"lobby","entries":[],"more":true}"#
    );
}

#[test]
fn text_is_escaped_wherever_a_client_has_chosen_it() {
    let text = "q\"\\\n\u{1}\u{7f}é\u{2028}😀";
    let request_ref = RequestRef::Text(text.into());
    let refusal = Refusal::new(ErrorCode::BadCid, text).to(Some(request_ref)).in_room(text).about(text);
    let decoded: Value = serde_json::from_str(&json(&refusal.frame())).unwrap();
    for field in ["ref", "room", "cid", "message"] {
        assert_eq!(decoded[field], text, "{field}");
    }
    assert_eq!(msgpack(&refusal.frame()), short_keys(&decoded));
}

#[test]
fn a_ref_comes_back_as_it_was() {
    for (request_ref, expected) in [
        (RequestRef::Unsigned(u64::MAX), json!(u64::MAX)),
        (RequestRef::Negative(i64::MIN), json!(i64::MIN)),
        (RequestRef::Negative(-1), json!(-1)),
        (RequestRef::Text("".into()), json!("")),
    ] {
        let pong = ServerFrame::Pong { request_ref: Some(&request_ref) };
        let decoded: Value = serde_json::from_str(&json(&pong)).unwrap();
        assert_eq!(decoded["ref"], expected);
        assert_eq!(msgpack(&pong)["q"], expected);
    }
}

#[test]
fn the_longest_id_fits() {
    let reset = ServerFrame::Reset {
        room: "lobby",
        reason: crate::model::ResetReason::Forked,
        from: crate::model::Cursor::new(EntryId::MAX, u64::MAX),
    };
    let id = "18446744073709551615-18446744073709551615";
    assert_eq!(msgpack(&reset)["from"], json!({"i": id, "s": u64::MAX}));
}

/// A damaged entry must neither panic nor leave half a frame in a connection's buffer.
#[test]
fn a_damaged_envelope_is_an_error_that_names_the_entry() {
    let good = message_entry(r#"[1,{"a":"b\n"},-1.5e3]"#);
    for end in 0..good.envelope.len() {
        let entries = [Entry { envelope: good.envelope.slice(..end), ..good.clone() }];
        let replay = ServerFrame::Replay { room: "lobby", entries: &entries, more: false };
        for subprotocol in Subprotocol::ALL {
            let mut out = b"earlier".to_vec();
            let error = append(subprotocol, &replay, &mut out).unwrap_err();
            assert_eq!(error.kind(), Kind::Corrupt);
            assert!(error.to_string().contains("1700000000000-0"), "{error}");
            assert_eq!(out, b"earlier");
        }
    }
}

#[test]
fn a_body_that_is_no_json_is_an_error_in_messagepack() {
    let deep = "[".repeat(100_000);
    let bodies =
        ["", "{", "[1", "[1 2]", "{\"a\"}", "{1:2}", "nul", "tru", "\"a", "\"\\", "\"\\x\"", "1 2", "-", "1e", &deep];
    for body in bodies {
        let entry = message_entry(body);
        let error = payload(Subprotocol::MsgPack, &ServerFrame::Entry(&entry)).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt, "{body:.20}");
    }
}

#[test]
fn containers_of_every_size_have_the_right_header() {
    for len in [0, 1, 15, 16, 17, 65_535, 65_536] {
        let array = Value::Array(vec![json!(1); len]);
        let map: Value = (0..len).map(|n| (n.to_string(), json!(n))).collect::<serde_json::Map<_, _>>().into();
        for body in [array, map] {
            let entry = message_entry(&body.to_string());
            assert_eq!(msgpack(&ServerFrame::Entry(&entry))["b"], body, "{len}");
        }
    }
}

#[test]
fn numbers_keep_their_value_in_messagepack() {
    for number in [
        "0",
        "-0",
        "-1",
        "127",
        "128",
        "-129",
        "18446744073709551615",
        "-9223372036854775808",
        "0.1",
        "1.0",
        "1e308",
        "5e-324",
        "18446744073709551616",
        "-9223372036854775809",
        "2.2250738585072011e-308",
    ] {
        let entry = message_entry(number);
        let decoded = msgpack(&ServerFrame::Entry(&entry))["b"].clone();
        let exact: f64 = number.parse().unwrap();
        assert_eq!(decoded.as_f64().unwrap().to_bits(), exact.to_bits(), "{number} became {decoded}");
        assert_eq!(decoded.is_f64(), number.parse::<u64>().is_err() && !number.parse::<i64>().is_ok_and(|n| n < 0));
    }
}

#[test]
fn an_event_may_have_data_and_no_user() {
    let event = crate::model::Event { event: "room_closed", user: None, data: Some(r#"{"by":"api"}"#) };
    let item = crate::model::Item::Event(event);
    let entry = Entry {
        id: EntryId::new(5, 6),
        room: Room::new("r").unwrap(),
        seq: 0,
        kind: EntryKind::Event,
        envelope: item.encode().into(),
    };
    let expected = r#"{"type":"event","room":"r","id":"5-6","seq":0,"event":"room_closed","data":{"by":"api"},"at":5}"#;
    assert_eq!(json(&ServerFrame::Entry(&entry)), expected);
}

proptest! {
    /// Whatever a stored body holds: a frame or an error, never a panic.
    #[test]
    fn any_stored_body_is_survived(body in r#"[\[\]{}":,\\untrfals0-9eE.+\- é]{0,40}"#) {
        let entry = message_entry(&body);
        let _ = payload(Subprotocol::MsgPack, &ServerFrame::Entry(&entry));
    }
}
