use crate::model::{Cursor, EntryId};
use crate::protocol::examples::msgpack_twin;
use crate::protocol::{
    ClientFrame, ErrorCode, HistoryRange, Refusal, Request, RequestRef, SinceAsked, Subprotocol, decode,
};

const BODY_BYTES: usize = 32 << 10;

fn from_json(json: &str) -> Result<Request<'_>, Refusal> {
    decode(Subprotocol::Json, json.as_bytes(), BODY_BYTES)
}

/// Decodes a frame as JSON; its MessagePack twin must say the same.
fn accepted(json: &str) -> Request<'_> {
    let request = from_json(json).unwrap_or_else(|refusal| panic!("{json}: {refusal}"));
    let twin = msgpack_twin(json);
    assert_eq!(decode(Subprotocol::MsgPack, &twin, BODY_BYTES).as_ref(), Ok(&request), "{json}");
    request
}

/// The refusal of a frame; its MessagePack twin must be refused alike.
fn refused(json: &str) -> Refusal {
    let refusal = from_json(json).expect_err(json);
    let twin = msgpack_twin(json);
    assert_eq!(decode(Subprotocol::MsgPack, &twin, BODY_BYTES).as_ref(), Err(&refusal), "{json}");
    refusal
}

fn code(json: &str) -> ErrorCode {
    refused(json).code
}

fn send(fields: &str) -> String {
    format!(r#"{{"type":"send","ref":1,"room":"lobby","cid":"c1","body":1{fields}}}"#)
}

#[test]
fn a_send_borrows_from_its_payload() {
    let json = r#"{"type":"send","ref":"s-1","room":"team:42/x","cid":"01J","kind":"text","body":{"text":"hi"}}"#;
    let request = from_json(json).unwrap();
    assert_eq!(request.request_ref, Some(RequestRef::Text("s-1".into())));
    let ClientFrame::Send(send) = request.frame else { panic!("{:?}", request.frame) };
    for field in [&send.room, &send.cid, &send.kind, &send.body] {
        assert!(matches!(field, std::borrow::Cow::Borrowed(_)), "{field}");
        let (payload, start) = (json.as_bytes().as_ptr_range(), field.as_ptr());
        assert!(payload.contains(&start), "{field}");
    }
}

#[test]
fn a_send_has_defaults_and_may_have_a_file() {
    let json = send("");
    let ClientFrame::Send(plain) = accepted(&json).frame else { panic!() };
    assert_eq!((&*plain.kind, plain.file), ("text", None));
    let with_file = send(r#","kind":"","file":{"url":"u","name":"n","size":1}"#);
    let ClientFrame::Send(sent) = accepted(&with_file).frame else { panic!() };
    let file = sent.file.unwrap();
    assert_eq!((&*sent.kind, &*file.url, &*file.name), ("", "u", "n"));
}

#[test]
fn escapes_are_read_in_names_and_in_fields() {
    let request = from_json(r#"{"\u0074ype":"send","ro\u006fm":"team:42\/x","cid":"\u00e9","body":"\/"}"#).unwrap();
    let ClientFrame::Send(send) = request.frame else { panic!() };
    assert_eq!((&*send.room, &*send.cid, &*send.body), ("team:42/x", "é", r#""\/""#));
}

#[test]
fn any_json_value_is_a_body() {
    for body in ["null", "true", "0", "\"\"", "[]", "{}", "[[1,{\"a\":null}],-1.5]", "\"a b\""] {
        let json = format!(r#"{{"type":"send","room":"r","cid":"c","body":{body}}}"#);
        let ClientFrame::Send(send) = accepted(&json).frame else { panic!() };
        assert_eq!(send.body, body);
    }
    let ClientFrame::Send(send) =
        from_json(r#"{"type":"send","room":"r","cid":"c","body": { "a b" : [ 1 , 2 ] } }"#).unwrap().frame
    else {
        panic!()
    };
    assert_eq!(send.body, r#"{"a b":[1,2]}"#);
}

#[test]
fn a_ref_is_an_integer_or_a_short_text() {
    let with = |value: &str| format!(r#"{{"type":"ping","ref":{value}}}"#);
    for (value, expected) in [
        ("0", RequestRef::Unsigned(0)),
        ("18446744073709551615", RequestRef::Unsigned(u64::MAX)),
        ("-9223372036854775808", RequestRef::Negative(i64::MIN)),
        ("\"\"", RequestRef::Text("".into())),
    ] {
        assert_eq!(accepted(&with(value)).request_ref, Some(expected));
    }
    assert_eq!(accepted(&with("null")).request_ref, None);
    let long = format!("\"{}\"", "é".repeat(32));
    assert!(accepted(&with(&long)).request_ref.is_some());
    let too_long = format!("\"{}\"", "x".repeat(65));
    for value in ["1.5", "1e3", "18446744073709551616", "true", "[1]", "{}", &too_long] {
        let refusal = refused(&with(value));
        assert_eq!((refusal.code, refusal.request_ref), (ErrorCode::BadFrame, None), "{value}");
    }
}

#[test]
fn since_has_five_forms() {
    let join = |since: &str| format!(r#"{{"type":"join","room":"r"{since}}}"#);
    let cursor = Cursor::new(EntryId::new(17, 3), 9);
    for (since, expected) in [
        ("", SinceAsked::Saved),
        (r#","since":null"#, SinceAsked::Saved),
        (r#","since":"saved""#, SinceAsked::Saved),
        (r#","since":"start""#, SinceAsked::Start),
        (r#","since":"now""#, SinceAsked::Now),
        (r#","since":{"last":1}"#, SinceAsked::Last(1)),
        (r#","since":{"last":1000,"more":1}"#, SinceAsked::Last(1000)),
        (r#","since":{"id":"17-3","seq":9}"#, SinceAsked::Cursor(cursor)),
    ] {
        let expected = ClientFrame::Join { room: "r".into(), since: expected };
        assert_eq!(accepted(&join(since)).frame, expected);
    }
    for since in [
        "\"begin\"",
        "5",
        "[]",
        "{}",
        "true",
        r#"{"last":0}"#,
        r#"{"last":1001}"#,
        r#"{"last":-1}"#,
        r#"{"last":1.5}"#,
        r#"{"last":"5"}"#,
        r#"{"id":"17-3"}"#,
        r#"{"seq":9}"#,
        r#"{"id":"17","seq":9}"#,
        r#"{"id":17,"seq":9}"#,
        r#"{"id":"17-3","seq":-1}"#,
        r#"{"id":"17-3","seq":"9"}"#,
        r#"{"id":"17-3","seq":9,"last":5}"#,
        r#"{"id":"99999999999999999999-0","seq":9}"#,
        r#"{"last":99999999999999999999999999999999999999999}"#,
    ] {
        assert_eq!(code(&join(&format!(r#","since":{since}"#))), ErrorCode::BadFrame, "{since}");
    }
}

#[test]
fn history_is_before_or_after_and_has_a_limit() {
    let history = |fields: &str| format!(r#"{{"type":"history","room":"r"{fields}}}"#);
    for (fields, range, limit) in [
        ("", HistoryRange::Newest, 50),
        (r#","before":10,"limit":1"#, HistoryRange::Before(10), 1),
        (r#","after":0,"limit":200"#, HistoryRange::After(0), 200),
        (r#","before":null,"after":5,"limit":201"#, HistoryRange::After(5), 200),
        (r#","limit":18446744073709551616"#, HistoryRange::Newest, 200),
    ] {
        // A library may write 2⁶⁴ as a float in MessagePack, so this one is read as JSON only.
        let json = history(fields);
        let request = if fields.contains("18446744073709551616") { from_json(&json).unwrap() } else { accepted(&json) };
        assert_eq!(request.frame, ClientFrame::History { room: "r".into(), range, limit });
    }
    for fields in [r#","before":1,"after":2"#, r#","limit":0"#, r#","limit":-1"#, r#","limit":"5""#, r#","limit":1.5"#]
    {
        assert_eq!(code(&history(fields)), ErrorCode::BadFrame, "{fields}");
    }
    assert_eq!(code(&history(r#","before":-1"#)), ErrorCode::BadSeq);
    assert_eq!(code(&history(r#","after":"1""#)), ErrorCode::BadFrame);
}

#[test]
fn a_hello_may_be_empty_and_its_client_is_cut() {
    let hello = accepted(r#"{"type":"hello"}"#).frame;
    assert_eq!(hello, ClientFrame::Hello { token: None, device: None, client: None });
    let long = format!(r#"{{"type":"hello","token":"t","device":"d","client":"{}"}}"#, "é".repeat(100));
    let ClientFrame::Hello { token, device, client } = accepted(&long).frame else { panic!() };
    assert_eq!((token.as_deref(), device.as_deref()), (Some("t"), Some("d")));
    assert_eq!(client.unwrap(), "é".repeat(64));
    let device = |device: &str| format!(r#"{{"type":"hello","device":{device}}}"#);
    for bad in ["\"\"", "5", r#""a\u0000""#, &format!("\"{}\"", "x".repeat(65))] {
        assert_eq!(code(&device(bad)), ErrorCode::BadFrame, "{bad}");
    }
}

/// A field means something only in the frames that have it.
#[test]
fn unknown_fields_are_ignored_whatever_they_hold() {
    let deep = format!("{}{}", "[".repeat(32), "]".repeat(32));
    let foreign = [
        r#""seq":"text""#,
        r#""room":5"#,
        r#""cid":[]"#,
        r#""limit":0"#,
        r#""body":1,"body":2"#,
        r#""since":7"#,
        r#""since":{"last":"x"}"#,
        r#""Ref":1.5"#,
        r#""file":1"#,
        r#""":null"#,
        r#""x":1e999"#,
        r#""x":"\ud800""#,
        &format!(r#""x":{deep}"#),
    ];
    for field in foreign {
        let json = format!(r#"{{"type":"ping",{field}}}"#);
        assert_eq!(from_json(&json).unwrap().frame, ClientFrame::Ping, "{field}");
    }
    // Long names are no names in MessagePack, and keys need not be text.
    let twin = [&[0x84, 0xa1, b't', 0xa4][..], b"ping", &[0xa3], b"ref", &[0xc0, 0x05, 0xc0, 0x91, 0x01, 0xc4, 1, 0]];
    let twin = twin.concat();
    assert_eq!(decode(Subprotocol::MsgPack, &twin, BODY_BYTES).unwrap().frame, ClientFrame::Ping);
}

#[test]
fn a_refusal_repeats_what_could_be_read() {
    let refusal = refused(r#"{"seq":true,"type":"ack","ref":"r1","room":"lobby","cid":"c9"}"#);
    let expected = Refusal::new(ErrorCode::BadFrame, "`seq` must be an integer")
        .to(Some(RequestRef::Text("r1".into())))
        .in_room("lobby")
        .about("c9");
    assert_eq!(refusal, expected);
    let bad_room = refused(r#"{"type":"leave","ref":-4,"room":"no spaces"}"#);
    assert_eq!(bad_room.room.as_deref(), Some("no spaces"));
    assert_eq!(bad_room.request_ref, Some(RequestRef::Negative(-4)));
    let long = refused(&format!(r#"{{"type":"leave","room":"{}"}}"#, "x".repeat(129)));
    assert_eq!((long.code, long.room), (ErrorCode::BadRoom, None));
    let unknown = refused(r#"{"type":"subscribe","ref":5,"room":"lobby"}"#);
    assert_eq!((unknown.code, unknown.request_ref), (ErrorCode::UnknownType, Some(RequestRef::Unsigned(5))));
}

mod fuzz;
mod refusals;
