//! Frames of a client: read, kept within the limits, and written again.

use millstream::model::{Cid, DeviceId, EntryKind, Item, Message, NAME_BYTES_MAX, ROOM_BYTES_MAX, Room, SenderType};
use millstream::protocol::{
    ClientFrame, FILE_NAME_BYTES_MAX, FILE_URL_BYTES_MAX, HISTORY_LIMIT_MAX, HistoryRange, KIND_BYTES_MAX, LAST_MAX,
    REF_BYTES_MAX, Refusal, Request, RequestRef, SIGNAL_BYTES_MAX, SendFrame, ServerFrame, SinceAsked, Subprotocol,
    check_body, decode, decode_text, payload,
};
use serde_json::{Map, Value, json};

use super::entry_of;

/// `limits.body_bytes`, small enough for the fuzzer to go beyond it.
const BODY_BYTES: usize = 512;
/// Longest message of a refusal: it repeats nothing of any length.
const MESSAGE_BYTES_MAX: usize = 200;

/// A frame in JSON.
pub fn frame_json(data: &[u8]) {
    let decoded = decode(Subprotocol::Json, data, BODY_BYTES);
    if let Ok(text) = std::str::from_utf8(data) {
        assert_eq!(decode_text(text, BODY_BYTES), decoded);
    }
    judge(decoded);
}

/// A frame in MessagePack.
pub fn frame_msgpack(data: &[u8]) {
    judge(decode(Subprotocol::MsgPack, data, BODY_BYTES));
}

fn judge(decoded: Result<Request<'_>, Refusal>) {
    match decoded {
        Ok(request) => {
            assert_limits(&request.frame);
            assert_same_in_json(&request);
            assert_same_in_msgpack(&request);
        }
        Err(refusal) => assert_sayable(&refusal),
    }
}

/// Whatever is accepted is within the limits of the contract.
fn assert_limits(frame: &ClientFrame<'_>) {
    match frame {
        ClientFrame::Hello { device, client, .. } => {
            assert!(device.as_deref().is_none_or(DeviceId::is_valid));
            assert!(client.as_deref().is_none_or(|client| client.len() <= 128));
        }
        ClientFrame::Send(SendFrame { room, cid, kind, body, file }) => {
            assert!(Room::is_valid(room) && Cid::is_valid(cid));
            assert!(kind.len() <= KIND_BYTES_MAX && !kind.contains('\0'));
            if let Some(file) = file {
                assert!(file.url.len() <= FILE_URL_BYTES_MAX && !file.url.contains('\0'));
                assert!(file.name.len() <= FILE_NAME_BYTES_MAX && !file.name.contains('\0'));
            }
            assert_storable(body, BODY_BYTES);
        }
        ClientFrame::Signal { room, body } => {
            assert!(Room::is_valid(room));
            assert_storable(body, SIGNAL_BYTES_MAX);
        }
        ClientFrame::Join { room, since } => {
            assert!(Room::is_valid(room));
            assert!(!matches!(since, SinceAsked::Last(n) if *n == 0 || *n > LAST_MAX));
        }
        ClientFrame::History { room, limit, .. } => {
            assert!(Room::is_valid(room) && (1..=HISTORY_LIMIT_MAX).contains(limit));
        }
        ClientFrame::Leave { room }
        | ClientFrame::Ack { room, .. }
        | ClientFrame::Read { room, .. }
        | ClientFrame::Presence { room } => assert!(Room::is_valid(room)),
        ClientFrame::Refresh { .. } | ClientFrame::Ping => {}
    }
}

/// A body is compact JSON that can be stored and said again, in both encodings.
fn assert_storable(body: &str, bytes_max: usize) {
    assert_eq!(check_body(body, bytes_max).as_deref(), Ok(body), "a body that was checked is as it has to be");
    let value: Value = serde_json::from_str(body).expect("a body is JSON");
    assert!(!holds_nul(&value), "{body}");
    let message =
        Message { user: "u", device: "d", cid: "c", kind: "k", body, sender_type: SenderType::User, file: None };
    let entry = entry_of(EntryKind::Message, Item::Message(message).encode());
    let json = payload(Subprotocol::Json, &ServerFrame::Entry(&entry)).expect("it can be said in JSON");
    let said: Value = serde_json::from_slice(&json).expect("a frame is JSON");
    assert_eq!(said["body"], value);
    let msgpack = payload(Subprotocol::MsgPack, &ServerFrame::Entry(&entry)).expect("it can be said in MessagePack");
    let said: Value = rmp_serde::from_slice(&msgpack).expect("a frame is MessagePack");
    assert_alike(&said["b"], &value);
}

fn holds_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(holds_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || holds_nul(value)),
        _ => false,
    }
}

/// Equal, but for what a float may lose when it is read by another library.
fn assert_alike(one: &Value, other: &Value) {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap_or(f64::NAN), b.as_f64().unwrap_or(f64::NAN));
            let near = (a - b).abs() <= a.abs().max(b.abs()) * 1e-12 || (a - b).abs() < f64::MIN_POSITIVE;
            assert!(near, "{one} and {other}");
        }
        (Value::Array(a), Value::Array(b)) => {
            assert_eq!(a.len(), b.len());
            a.iter().zip(b).for_each(|(a, b)| assert_alike(a, b));
        }
        (Value::Object(a), Value::Object(b)) => {
            assert!(a.keys().eq(b.keys()), "{one} and {other}");
            a.values().zip(b.values()).for_each(|(a, b)| assert_alike(a, b));
        }
        _ => assert_eq!(one, other),
    }
}

/// The same frame, written in JSON by another hand, is read as the same.
fn assert_same_in_json(request: &Request<'_>) {
    let (fields, body) = fields_of(request);
    let mut text = Value::Object(fields).to_string();
    if let Some(body) = body {
        text.truncate(text.len() - 1);
        text.push_str(&format!(",\"body\":{body}}}"));
    }
    assert_eq!(decode(Subprotocol::Json, text.as_bytes(), BODY_BYTES).as_ref(), Ok(request), "{text}");
}

/// The same frame, written in MessagePack by another hand, is read as the same; its body may be written
/// otherwise, and longer, but means the same.
fn assert_same_in_msgpack(request: &Request<'_>) {
    const SHORT: [(&str, &str); 10] = [
        ("type", "t"),
        ("ref", "q"),
        ("room", "r"),
        ("id", "i"),
        ("seq", "s"),
        ("device", "d"),
        ("cid", "c"),
        ("kind", "k"),
        ("since", "f"),
        ("body", "b"),
    ];
    fn short(fields: Map<String, Value>) -> Map<String, Value> {
        let short_name = |name: &str| SHORT.iter().find(|(long, _)| *long == name).map(|(_, short)| *short);
        let rename = |(name, value): (String, Value)| {
            let value = if let Value::Object(below) = value { Value::Object(short(below)) } else { value };
            (short_name(&name).map_or(name, str::to_owned), value)
        };
        fields.into_iter().map(rename).collect()
    }
    let (fields, body) = fields_of(request);
    let mut fields = short(fields);
    let body = body.map(|body| serde_json::from_str::<Value>(body).expect("a body is JSON"));
    if let Some(body) = &body {
        fields.insert("b".into(), body.clone());
    }
    let twin = rmp_serde::to_vec(&fields).expect("JSON is MessagePack");
    // A number of few letters may need many more once it is written out.
    let again = decode(Subprotocol::MsgPack, &twin, BODY_BYTES * 16);
    let again = match again {
        Err(refusal) if matches!(request.frame, ClientFrame::Signal { .. }) => {
            return assert_eq!(refusal.code.as_str(), "too_large");
        }
        other => other.expect("its twin is accepted"),
    };
    let (mut one, mut other) = (request.clone(), again);
    if let Some(body) = body {
        let written: Value = serde_json::from_str(&take_body(&mut other)).expect("a body is JSON");
        assert_alike(&written, &body);
        take_body(&mut one);
    }
    assert_eq!(one, other);
}

fn take_body(request: &mut Request<'_>) -> String {
    match &mut request.frame {
        ClientFrame::Send(SendFrame { body, .. }) | ClientFrame::Signal { body, .. } => {
            std::mem::take(body).into_owned()
        }
        _ => String::new(),
    }
}

/// A frame's fields by their long names, and its body.
fn fields_of<'a>(request: &'a Request<'_>) -> (Map<String, Value>, Option<&'a str>) {
    let mut body_text = None;
    let mut fields = match &request.frame {
        ClientFrame::Hello { token, device, client } => {
            json!({ "type": "hello", "token": token, "device": device, "client": client })
        }
        ClientFrame::Send(SendFrame { room, cid, kind, file, body }) => {
            body_text = Some(&**body);
            let file = file.as_ref().map(|file| json!({ "url": file.url, "name": file.name }));
            json!({ "type": "send", "room": room, "cid": cid, "kind": kind, "file": file })
        }
        ClientFrame::Signal { room, body } => {
            body_text = Some(&**body);
            json!({ "type": "signal", "room": room })
        }
        ClientFrame::Join { room, since } => json!({ "type": "join", "room": room, "since": since_of(since) }),
        ClientFrame::Leave { room } => json!({ "type": "leave", "room": room }),
        ClientFrame::Presence { room } => json!({ "type": "presence", "room": room }),
        ClientFrame::Ack { room, seq } => json!({ "type": "ack", "room": room, "seq": seq }),
        ClientFrame::Read { room, seq } => json!({ "type": "read", "room": room, "seq": seq }),
        ClientFrame::History { room, range, limit } => {
            let (before, after) = match range {
                HistoryRange::Newest => (None, None),
                HistoryRange::Before(seq) => (Some(seq), None),
                HistoryRange::After(seq) => (None, Some(seq)),
            };
            json!({ "type": "history", "room": room, "before": before, "after": after, "limit": limit })
        }
        ClientFrame::Refresh { token } => json!({ "type": "refresh", "token": token }),
        ClientFrame::Ping => json!({ "type": "ping" }),
    };
    fields["ref"] = match &request.request_ref {
        None => Value::Null,
        Some(RequestRef::Unsigned(number)) => (*number).into(),
        Some(RequestRef::Negative(number)) => (*number).into(),
        Some(RequestRef::Text(text)) => (&**text).into(),
    };
    let Value::Object(fields) = fields else { unreachable!("each is an object") };
    (fields, body_text)
}

fn since_of(since: &SinceAsked) -> Value {
    match since {
        SinceAsked::Saved => "saved".into(),
        SinceAsked::Start => "start".into(),
        SinceAsked::Now => "now".into(),
        SinceAsked::Last(n) => json!({ "last": n }),
        SinceAsked::Cursor(cursor) => json!({ "id": cursor.id, "seq": cursor.seq }),
    }
}

/// A refusal can be said in both encodings, and repeats nothing beyond its limit.
fn assert_sayable(refusal: &Refusal) {
    assert!(refusal.room.as_deref().is_none_or(|room| room.len() <= ROOM_BYTES_MAX));
    assert!(refusal.cid.as_deref().is_none_or(|cid| cid.len() <= NAME_BYTES_MAX));
    assert!(!matches!(&refusal.request_ref, Some(RequestRef::Text(text)) if text.len() > REF_BYTES_MAX));
    let json = payload(Subprotocol::Json, &refusal.frame()).expect("it can be said in JSON");
    let json: Value = serde_json::from_slice(&json).expect("a frame is JSON");
    assert_eq!(json["code"], refusal.code.as_str());
    let message = json["message"].as_str().unwrap_or_default();
    assert!((1..=MESSAGE_BYTES_MAX).contains(&message.len()), "{message}");
    let msgpack = payload(Subprotocol::MsgPack, &refusal.frame()).expect("it can be said in MessagePack");
    let msgpack: Value = rmp_serde::from_slice(&msgpack).expect("a frame is MessagePack");
    for (long, short) in [("code", "o"), ("message", "message"), ("room", "r"), ("cid", "c"), ("ref", "q")] {
        assert_eq!(json.get(long), msgpack.get(short), "{long}");
    }
}
