//! Frames in both subprotocols as JSON values with long keys.

use serde_json::{Map, Value};

/// Section 6 of the protocol: long key, short key.
const KEYS: &[(&str, &str)] = &[
    ("type", "t"),
    ("ref", "q"),
    ("room", "r"),
    ("id", "i"),
    ("seq", "s"),
    ("user", "u"),
    ("device", "d"),
    ("cid", "c"),
    ("kind", "k"),
    ("body", "b"),
    ("since", "f"),
    ("entries", "e"),
    ("more", "m"),
    ("duplicate", "x"),
    ("code", "o"),
];

/// A frame as MessagePack with short keys.
pub fn to_msgpack(frame: &Value) -> Vec<u8> {
    let short = renamed(frame.clone(), &|key| KEYS.iter().find(|(long, _)| *long == key).map(|(_, short)| *short));
    rmp_serde::to_vec(&short).expect("a JSON value is a MessagePack value")
}

/// A frame from MessagePack with short keys. `at`, which is left out there, is filled in.
pub fn from_msgpack(bytes: &[u8]) -> Value {
    let frame: Value = rmp_serde::from_slice(bytes).expect("the server sends MessagePack");
    let long_keys = frame.as_object().expect("a frame is a map").keys().all(|key| key.len() == 1 || !is_long(key));
    assert!(long_keys, "a long key that has a short one: {frame}");
    let mut frame = renamed(frame, &|key| KEYS.iter().find(|(_, short)| *short == key).map(|(long, _)| *long));
    fill_in_at(&mut frame);
    if let Some(entries) = frame.get_mut("entries").and_then(Value::as_array_mut) {
        entries.iter_mut().for_each(fill_in_at);
    }
    frame
}

fn is_long(key: &str) -> bool {
    KEYS.iter().any(|(long, _)| *long == key)
}

fn fill_in_at(item: &mut Value) {
    let kind = item["type"].as_str().unwrap_or_default();
    if (kind == "message" || kind == "event") && item.get("at").is_none() {
        let ms = item["id"].as_str().and_then(|id| id.split('-').next()?.parse::<u64>().ok());
        item["at"] = ms.into();
    }
}

/// Renames keys at every level outside `body` and `data`.
fn renamed(value: Value, to: &dyn Fn(&str) -> Option<&'static str>) -> Value {
    match value {
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let opaque = ["body", "b", "data"].contains(&key.as_str());
                let value = if opaque { value } else { renamed(value, to) };
                out.insert(to(&key).map_or(key, str::to_owned), value);
            }
            Value::Object(out)
        }
        Value::Array(items) => Value::Array(items.into_iter().map(|item| renamed(item, to)).collect()),
        other => other,
    }
}
