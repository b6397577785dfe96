//! What all of them work on: messages as a chat has them.

use millstream::model::{Entry, EntryId, EntryKind, Item, Message, Room, SenderType};

/// Bytes of a body: the load of `millstream bench` has as many.
pub(crate) const BODY_BYTES: usize = 200;

/// A body of [`BODY_BYTES`] of compact JSON: a text with a few characters that JSON escapes or UTF-8 makes long.
pub(crate) fn body() -> String {
    let begin = r#"{"text":"Grüße: \"so schnell wie möglich\", "#;
    let end = r#"","n":12345}"#;
    format!("{begin}{}{end}", "x".repeat(BODY_BYTES - begin.len() - end.len()))
}

/// A message with this body.
pub(crate) fn message(body: &str) -> Item<'_> {
    let (user, device, cid) = ("alice", "phone", "0192f3a4-1c2d-7e3f-8a4b-5c6d7e8f9a0b");
    Item::Message(Message { user, device, cid, kind: "text", body, sender_type: SenderType::User, file: None })
}

/// So many consecutive messages of a room.
#[allow(dead_code, reason = "not every program works on entries")]
pub(crate) fn entries(room: &str, count: u64) -> Vec<Entry> {
    let envelope = bytes::Bytes::from(message(&body()).encode());
    let entry = |n: u64| Entry {
        id: EntryId::new(1_700_000_000_000 + n, 0),
        room: Room::new(room).unwrap(),
        seq: n + 1,
        kind: EntryKind::Message,
        envelope: envelope.clone(),
    };
    (0..count).map(entry).collect()
}
