//! Every code that decoding can answer with.

use super::*;

fn at_json(json: &str) -> ErrorCode {
    from_json(json).expect_err(json).code
}

fn at_msgpack(bytes: &[u8]) -> ErrorCode {
    decode(Subprotocol::MsgPack, bytes, BODY_BYTES).expect_err("accepted").code
}

/// `{"type": "send", "room": "r", "cid": "c", "body": <body>}` in MessagePack.
fn msgpack_send(body: &[u8]) -> Vec<u8> {
    let head = [&[0x84, 0xa1, b't', 0xa4][..], b"send", &[0xa1, b'r', 0xa1, b'r', 0xa1, b'c', 0xa1, b'c', 0xa1, b'b']];
    [&head.concat(), body].concat()
}

#[test]
fn what_is_no_frame_is_a_bad_frame() {
    for json in [
        "",
        " ",
        "nonsense",
        "{",
        "[]",
        "5",
        "null",
        "\"ping\"",
        "{\"type\":\"ping\"",
        "{\"type\":\"ping\"} x",
        "{\"type\":\"ping\",}",
        "{'type':'ping'}",
        "{\"type\":\"pi\u{0}ng\"}",
        "{\"type\" \"ping\"}",
        "\u{feff}{\"type\":\"ping\"}",
    ] {
        assert_eq!(at_json(json), ErrorCode::BadFrame, "{json:?}");
    }
    assert_eq!(decode(Subprotocol::Json, b"{\"type\":\"ping\xff\"}", 9).unwrap_err().code, ErrorCode::BadFrame);
    for bytes in [&b""[..], b"{}", &[0xc1], &[0x90], &[0xc0], &[0x81], &[0x81, 0xa1, b't'], &[0x80, 0x00], &[0x80]] {
        assert_eq!(at_msgpack(bytes), ErrorCode::BadFrame, "{bytes:?}");
    }
}

#[test]
fn a_type_is_a_known_text() {
    for json in [r#"{}"#, r#"{"type":5}"#, r#"{"type":null}"#, r#"{"type":["ping"]}"#, r#"{"Type":"ping"}"#] {
        assert_eq!(code(json), ErrorCode::BadFrame, "{json}");
    }
    for json in [r#"{"type":""}"#, r#"{"type":"Ping"}"#, r#"{"type":"welcome"}"#, r#"{"type":"message","room":"r"}"#] {
        assert_eq!(code(json), ErrorCode::UnknownType, "{json}");
    }
}

#[test]
fn a_field_that_is_needed_must_be_there() {
    for json in [
        r#"{"type":"join"}"#,
        r#"{"type":"leave","room":null}"#,
        r#"{"type":"presence"}"#,
        r#"{"type":"history"}"#,
        r#"{"type":"ack","room":"r"}"#,
        r#"{"type":"read","seq":1}"#,
        r#"{"type":"refresh"}"#,
        r#"{"type":"signal","room":"r"}"#,
        r#"{"type":"send","room":"r","cid":"c"}"#,
        r#"{"type":"send","room":"r","body":1}"#,
        r#"{"type":"send","cid":"c","body":1}"#,
    ] {
        assert_eq!(code(json), ErrorCode::BadFrame, "{json}");
    }
}

#[test]
fn a_field_of_the_frame_must_be_of_its_kind_and_come_once() {
    for json in [
        r#"{"type":"join","room":5}"#,
        r#"{"type":"leave","room":["r"]}"#,
        r#"{"type":"refresh","token":1}"#,
        r#"{"type":"hello","client":{}}"#,
        r#"{"type":"ack","room":"r","seq":"1"}"#,
        r#"{"type":"ack","room":"r","seq":{}}"#,
        r#"{"type":"send","room":"r","cid":7,"body":1}"#,
        &send(r#","kind":5"#),
        &send(r#","file":"u""#),
        &send(r#","file":{"url":"u"}"#),
        &send(r#","file":{"name":"n"}"#),
        &send(r#","file":{"url":1,"name":"n"}"#),
    ] {
        assert_eq!(code(json), ErrorCode::BadFrame, "{json}");
    }
    for json in [
        r#"{"type":"ping","type":"ping"}"#,
        r#"{"type":"leave","room":"a","room":"b"}"#,
        r#"{"type":"ping","ref":1,"ref":1}"#,
        r#"{"type":"leave","room":"a","r\u006fom":null}"#,
        &send(r#","body":1"#),
    ] {
        assert_eq!(at_json(json), ErrorCode::BadFrame, "{json}");
    }
    assert_eq!(at_msgpack(&[0x82, 0xa1, b't', 0xa0, 0xa1, b't', 0xa0]), ErrorCode::BadFrame);
}

#[test]
fn a_field_must_not_be_over_its_length() {
    let text = |len: usize| "x".repeat(len);
    let kind = |len| send(&format!(r#","kind":"{}""#, text(len)));
    let url = |len| send(&format!(r#","file":{{"url":"{}","name":"n"}}"#, text(len)));
    let name = |len| send(&format!(r#","file":{{"url":"u","name":"{}"}}"#, text(len)));
    for (frame, max) in [(&kind as &dyn Fn(usize) -> String, 32), (&url, 2048), (&name, 255)] {
        accepted(&frame(max));
        assert_eq!(code(&frame(max + 1)), ErrorCode::BadFrame);
    }
    for nul in
        [r#","kind":"\u0000""#, r#","file":{"url":"\u0000","name":"n"}"#, r#","file":{"url":"u","name":"a\u0000b"}"#]
    {
        assert_eq!(code(&send(nul)), ErrorCode::BadFrame, "{nul}");
    }
}

#[test]
fn a_room_a_cid_and_a_seq_have_codes_of_their_own() {
    let long = "x".repeat(129);
    for room in ["", "a b", "ü", "a\\u0000", "a*", &long] {
        assert_eq!(code(&format!(r#"{{"type":"join","room":"{room}"}}"#)), ErrorCode::BadRoom, "{room}");
    }
    accepted(&format!(r#"{{"type":"join","room":"{}"}}"#, "x".repeat(128)));
    for cid in ["", "a\\u0000", &"x".repeat(65), &"é".repeat(33)] {
        let json = format!(r#"{{"type":"send","room":"r","cid":"{cid}","body":1}}"#);
        assert_eq!(code(&json), ErrorCode::BadCid, "{cid}");
    }
    for frame in ["ack", "read"] {
        let with = |seq: &str| format!(r#"{{"type":"{frame}","room":"r","seq":{seq}}}"#);
        for seq in ["-1", "1.5", "1e2", "18446744073709551616", "-9223372036854775808"] {
            assert_eq!(code(&with(seq)), ErrorCode::BadSeq, "{seq}");
        }
        accepted(&with("0"));
        accepted(&with("18446744073709551615"));
    }
}

#[test]
fn a_body_that_cannot_be_stored_is_a_bad_body() {
    for body in [r#""\u0000""#, r#"{"a\u0000":1}"#, r#"[["x\u0000"]]"#] {
        assert_eq!(code(&format!(r#"{{"type":"send","room":"r","cid":"c","body":{body}}}"#)), ErrorCode::BadBody);
        assert_eq!(code(&format!(r#"{{"type":"signal","room":"r","body":{body}}}"#)), ErrorCode::BadBody);
    }
    for body in [r#""\ud800""#, r#"{"\udc00":1}"#, "1e999", "[-1e999]"] {
        assert_eq!(at_json(&format!(r#"{{"type":"send","room":"r","cid":"c","body":{body}}}"#)), ErrorCode::BadBody);
    }
    for body in [
        &[0xc4, 1, 0][..],         // bytes
        &[0xd4, 1, 0],             // an extension
        &[0xc7, 0, 1],             // an empty extension
        &[0x81, 1, 2],             // a key that is a number
        &[0x81, 0xc0, 2],          // a key that is nil
        &[0xca, 0x7f, 0xc0, 0, 0], // NaN
        &[0xca, 0x7f, 0x80, 0, 0], // infinity
        &[0xcb, 0xff, 0xf0, 0, 0, 0, 0, 0, 0],
        &[0xa1, 0xff],          // no UTF-8
        &[0x81, 0xa1, 0, 0xc0], // U+0000 as a key
    ] {
        assert_eq!(at_msgpack(&msgpack_send(body)), ErrorCode::BadBody, "{body:x?}");
    }
}

#[test]
fn a_body_over_its_limit_is_too_large() {
    let sized = |kind: &str, len: usize| {
        format!(r#"{{"type":"{kind}","room":"r","cid":"c","body":"{}"}}"#, "x".repeat(len - 2))
    };
    accepted(&sized("send", BODY_BYTES));
    assert_eq!(code(&sized("send", BODY_BYTES + 1)), ErrorCode::TooLarge);
    accepted(&sized("signal", 1024));
    let refusal = refused(&sized("signal", 1025));
    assert_eq!((refusal.code, refusal.room.as_deref()), (ErrorCode::TooLarge, Some("r")));
    // What counts is compact JSON: white space doesn't, escapes do.
    let padded = format!(r#"{{"type":"signal","room":"r","body":[{}1]}}"#, " ".repeat(5000));
    accepted(&padded);
    let control = "\u{1}".repeat(200);
    let json = format!(r#"{{"type":"signal","room":"r","body":{}}}"#, serde_json::to_string(&control).unwrap());
    assert_eq!(code(&json), ErrorCode::TooLarge);
}

#[test]
fn nesting_is_limited_everywhere_and_never_overflows_the_stack() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for name in ["body", "unknown"] {
        let with = |depth: usize| {
            format!(
                r#"{{"{name}":{},"type":"send","room":"r","cid":"c"{}}}"#,
                nested(depth),
                if name == "body" { "" } else { r#","body":0"# }
            )
        };
        accepted(&with(32));
        assert_eq!(at_json(&with(33)), ErrorCode::BadFrame);
        assert_eq!(at_json(&with(100_000)), ErrorCode::BadFrame);
    }
    assert_eq!(at_json(&nested(100_000)), ErrorCode::BadFrame);
    assert_eq!(at_json(&"{\"type\":".repeat(100_000)), ErrorCode::BadFrame);
    accepted(&format!(r#"{{"type":"ping","x":"{}"}}"#, "[".repeat(100)));
    accepted(&format!(r#"{{"type":"ping","x":[{}1]}}"#, "[],".repeat(100)));
    accepted(&format!(r#"{{"type":"ping","x":["\"[{{","{}"]}}"#, "\\\\[".repeat(100)));

    let deep = |depth: usize| [vec![0x91; depth], vec![0xc0]].concat();
    assert!(decode(Subprotocol::MsgPack, &msgpack_send(&deep(32)), BODY_BYTES).is_ok());
    for depth in [33, 700, 60_000] {
        assert_eq!(at_msgpack(&msgpack_send(&deep(depth))), ErrorCode::BadFrame, "{depth}");
        assert_eq!(at_msgpack(&deep(depth)), ErrorCode::BadFrame, "{depth}");
    }
    let deep_key = [&[0x81][..], &deep(40), &[0xc0]].concat();
    assert_eq!(at_msgpack(&deep_key), ErrorCode::BadFrame);
}

/// A length is a claim: nothing may be allocated for it, and no time be spent on it.
#[test]
fn announced_lengths_are_not_believed() {
    for claim in [
        &[0xdd, 255, 255, 255, 255][..],
        &[0xdf, 255, 255, 255, 255],
        &[0xdb, 255, 255, 255, 255],
        &[0xc6, 255, 255, 255, 255],
        &[0xc9, 255, 255, 255, 255, 1],
        &[0xdc, 255, 255],
        &[0xd9, 9],
    ] {
        assert_eq!(at_msgpack(claim), ErrorCode::BadFrame, "{claim:x?}");
        assert_eq!(at_msgpack(&msgpack_send(claim)), ErrorCode::BadFrame, "{claim:x?}");
    }
}
