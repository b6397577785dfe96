//! What frames and callbacks say, in the words of a history.

use millstream::model::{Cid, Cursor, DeviceId, EntryId, Room, UserId};
use millstream::verify::{Content, Digest, Seen};
use serde_json::Value;

/// An entry as a `message` or `event` frame shows it; `room` where the frame doesn't say it itself.
pub(crate) fn entry(frame: &Value, room: Option<&Room>) -> Option<Seen> {
    let room = match frame["room"].as_str() {
        Some(name) => Room::new(name).ok()?,
        None => room?.clone(),
    };
    let content = match frame["type"].as_str()? {
        "message" => Content::Message {
            user: UserId::new(frame["user"].as_str()?).ok()?,
            device: DeviceId::new(frame["device"].as_str()?).ok()?,
            cid: Cid::new(frame["cid"].as_str()?).ok()?,
            body: Digest::of_value(&frame["body"]),
        },
        "event" => Content::Event(frame["event"].as_str()?.into()),
        _ => return None,
    };
    Some(Seen { room, id: id(&frame["id"])?, seq: frame["seq"].as_u64()?, content })
}

/// `{id, seq}`
pub(crate) fn cursor(value: &Value) -> Option<Cursor> {
    Some(Cursor::new(id(&value["id"])?, value["seq"].as_u64()?))
}

fn id(value: &Value) -> Option<EntryId> {
    value.as_str()?.parse().ok()
}

/// A word of the protocol as the type that has it.
pub(crate) fn word<T: serde::de::DeserializeOwned>(value: &Value) -> Option<T> {
    serde_json::from_value(value.clone()).ok()
}
