//! Examples for tests: a frame of every kind, and the way from a JSON frame to its MessagePack twin.

use serde_json::{Map, Value};

use super::{ErrorCode, LeftReason, Limits, Member, RequestRef, ServerFrame, Subprotocol, Welcome};
use crate::model::{
    Cursor, Entry, EntryId, EntryKind, Event, FileRef, Item, Message, ResetReason, Resume, Room, SenderType,
};

/// Short keys of MessagePack, section 6 of the contract, written down once more: a slip in `key.rs` shows.
pub(super) const SHORT_KEYS: [(&str, &str); 16] = [
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
    ("at", ""),
];

/// A JSON frame with MessagePack's keys: `body` and `data` as they are, `at` left out.
pub(super) fn short_keys(frame: &Value) -> Value {
    match frame {
        Value::Array(items) => items.iter().map(short_keys).collect(),
        Value::Object(fields) => {
            let mut short = Map::new();
            for (key, value) in fields {
                let opaque = key == "body" || key == "data";
                let value = if opaque { value.clone() } else { short_keys(value) };
                let name = SHORT_KEYS.iter().find(|(long, _)| long == key).map_or(key.as_str(), |(_, short)| short);
                if !name.is_empty() {
                    short.insert(name.to_owned(), value);
                }
            }
            Value::Object(short)
        }
        other => other.clone(),
    }
}

/// The MessagePack twin of a JSON frame, encoded by a library that is not ours.
pub(super) fn msgpack_twin(json: &str) -> Vec<u8> {
    let frame: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{json}: {e}"));
    rmp_serde::to_vec(&short_keys(&frame)).unwrap()
}

/// Bytes as text like `82 a1 74`, of which each line may end in `; a remark`.
pub(super) fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .lines()
        .filter_map(|line| line.split(';').next())
        .flat_map(str::bytes)
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// A message of `lobby` with this body, as it comes out of the log.
pub(super) fn message_entry(body: &str) -> Entry {
    let message = Message {
        user: "alice",
        device: "phone",
        cid: "c1",
        kind: "text",
        body,
        sender_type: SenderType::User,
        file: None,
    };
    entry(EntryId::new(1_700_000_000_000, 0), 42, Item::Message(message))
}

fn entry(id: EntryId, seq: u64, item: Item<'_>) -> Entry {
    Entry { id, room: Room::new("lobby").unwrap(), seq, kind: item.entry_kind(), envelope: item.encode().into() }
}

/// What the example frames borrow from.
pub(super) struct Examples {
    seven: RequestRef,
    text: RequestRef,
    entries: [Entry; 3],
    members: [Member<'static>; 2],
}

impl Examples {
    pub(super) fn new() -> Self {
        let file = Some(FileRef { url: "https://files.example.org/plan.pdf", name: "plan.pdf" });
        let service = Message {
            user: "build",
            device: "ci-1",
            cid: "run-812",
            kind: "report",
            body: r#"{"passed":812,"failed":0}"#,
            sender_type: SenderType::Service,
            file,
        };
        let joined = Event { event: "user_joined", user: Some("bob"), data: None };
        Self {
            seven: RequestRef::Unsigned(7),
            text: RequestRef::Text("b-2".into()),
            entries: [
                message_entry(r#"{"text":"hello"}"#),
                entry(EntryId::new(1_700_000_000_120, 0), 42, Item::Event(joined)),
                entry(EntryId::new(1_700_000_000_250, 1), 43, Item::Message(service)),
            ],
            members: [
                Member { user: "alice", devices: 2, since: 1_699_999_990_000 },
                Member { user: "bob", devices: 1, since: 1_700_000_000_120 },
            ],
        }
    }

    /// Every frame of the server, in the order of `docs/protocol.md`.
    pub(super) fn server(&self) -> Vec<ServerFrame<'_>> {
        let since = Cursor::new(EntryId::new(1_699_999_999_000, 0), 41);
        let head = self.entries[2].cursor();
        let (room, seven) = ("lobby", Some(&self.seven));
        vec![
            ServerFrame::Welcome(welcome()),
            ServerFrame::Joined {
                request_ref: seven,
                room,
                resume: Resume::Resumed,
                reason: None,
                since,
                head,
                unread: 2,
            },
            ServerFrame::Joined {
                request_ref: None,
                room: "@user:alice",
                resume: Resume::Reset,
                reason: Some(ResetReason::Forked),
                since: Cursor::START,
                head: Cursor::START,
                unread: 0,
            },
            ServerFrame::Replay { room, entries: &self.entries[..2], more: true },
            ServerFrame::Live { room, seq: 43 },
            ServerFrame::Entry(&self.entries[0]),
            ServerFrame::Entry(&self.entries[2]),
            ServerFrame::Entry(&self.entries[1]),
            ServerFrame::Sent {
                request_ref: Some(&self.text),
                room,
                cid: "c1",
                id: self.entries[0].id,
                seq: 42,
                duplicate: false,
            },
            ServerFrame::Signal { room, user: "bob", body: r#"{"typing":true}"# },
            ServerFrame::Receipt { room, user: "bob", received: 43, read: 42 },
            ServerFrame::History { request_ref: seven, room, entries: &self.entries[2..], more: true, floor: 1, head },
            ServerFrame::Presence { request_ref: seven, room, count: 2, members: Some(&self.members) },
            ServerFrame::Presence { request_ref: None, room, count: 812, members: None },
            ServerFrame::Reset { room, reason: ResetReason::Trimmed, from: since },
            ServerFrame::Left { request_ref: seven, room, reason: None },
            ServerFrame::Left { request_ref: None, room, reason: Some(LeftReason::RoomClosed) },
            ServerFrame::Pong { request_ref: None },
            ServerFrame::Error {
                request_ref: Some(&self.text),
                room: Some(room),
                cid: Some("c1"),
                code: ErrorCode::Unavailable,
                message: "the log can't be written now",
                retry_after_ms: Some(1_000),
            },
            ServerFrame::Error {
                request_ref: None,
                room: None,
                cid: None,
                code: ErrorCode::BadFrame,
                message: "`seq` is missing",
                retry_after_ms: None,
            },
            ServerFrame::Bye { reason: "restart", reconnect: true, reconnect_after_ms: Some(1_500) },
            ServerFrame::Bye { reason: "replaced", reconnect: false, reconnect_after_ms: None },
        ]
    }
}

fn welcome() -> Welcome<'static> {
    Welcome {
        request_ref: None,
        connection: "e1-4d2",
        user: "alice",
        device: "phone",
        server: "millstream/0.1.0",
        heartbeat_ms: 25_000,
        expires_at: Some(1_700_003_600_000),
        limits: Limits {
            message_bytes: 64 << 10,
            body_bytes: 32 << 10,
            rooms: 1_000,
            unacked_sends: 64,
            sends_per_second: 100,
        },
    }
}

/// The JSON payload of a frame.
pub(super) fn json(frame: &ServerFrame<'_>) -> String {
    String::from_utf8(super::payload(Subprotocol::Json, frame).unwrap().to_vec()).unwrap()
}

#[test]
fn an_example_entry_is_of_the_kind_that_it_says() {
    for entry in &Examples::new().entries {
        assert!(entry.open().is_ok());
    }
    assert_eq!(Examples::new().entries[1].kind, EntryKind::Event);
}
