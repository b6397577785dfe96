//! What is posted: the body of Standard Webhooks, and the id that stays the same.
//!
//! `{"type", "timestamp", "data"}`, in which `data` is the `message` or `event` frame of the client
//! protocol. See `docs/callbacks.md` and `docs/callback.schema.json`.
//!
//! **Invariant:** an entry always gives the same bytes and the same id, on every attempt, from
//! every worker.

use bytes::Bytes;
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, EntryKind, Item as Content, PartitionId};
use crate::protocol::{ServerFrame, Subprotocol};

/// RFC 3339 with milliseconds, always three digits.
const TIMESTAMP: StaticFormatDescription =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// What a body has beside an entry's content, about.
const BODY_BYTES_USUAL: usize = 256;

/// One callback: built once, posted as often as needed.
#[derive(Debug, Clone)]
pub(super) struct Item {
    /// The header `webhook-id`: `msg_<partition>_<ms>-<n>`. Ids of entries are unique in their
    /// partition only, so the partition is part of it.
    pub(super) id: String,
    /// The body.
    pub(super) body: Bytes,
    /// Whether it is delivered again on request.
    pub(super) replayed: bool,
    /// When the entry was accepted, in milliseconds since the epoch.
    pub(super) accepted_ms: u64,
}

impl Item {
    /// The callback of an entry.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if its envelope can't be opened.
    pub(super) fn new(partition: PartitionId, entry: &Entry, replayed: bool) -> Result<Self> {
        // A message is opened once, where its frame is written.
        let r#type = match entry.kind {
            EntryKind::Message => "message",
            EntryKind::Event => event_name(entry)?,
        };
        // Written around the frame, so that the largest part of it is not copied.
        let mut body = Vec::with_capacity(BODY_BYTES_USUAL + entry.envelope.len());
        body.extend_from_slice(br#"{"type":"#);
        serde_json::to_writer(&mut body, r#type)
            .map_err(|e| Error::internal("write a callback's body").caused_by(e))?;
        body.extend_from_slice(br#","timestamp":""#);
        body.extend_from_slice(timestamp(entry.id)?.as_bytes());
        body.extend_from_slice(br#"","data":"#);
        let data = body.len();
        ServerFrame::Entry(entry).write(Subprotocol::Json, &mut body)?;
        serde_json::from_slice::<&RawValue>(&body[data..])
            .map_err(|e| Error::new(Kind::Corrupt, format!("read the frame of entry {}", entry.id)).caused_by(e))?;
        body.push(b'}');
        Ok(Self { id: id(partition, entry.id), body: body.into(), replayed, accepted_ms: entry.id.ms })
    }
}

fn event_name(entry: &Entry) -> Result<&str> {
    match entry.open()? {
        Content::Event(event) => Ok(event.event),
        Content::Message(_) => Err(Error::new(Kind::Corrupt, format!("read event {}: it holds a message", entry.id))),
    }
}

fn id(partition: PartitionId, id: EntryId) -> String {
    format!("msg_{partition}_{id}")
}

fn timestamp(id: EntryId) -> Result<String> {
    let wrong = || Error::new(Kind::Corrupt, format!("write the time of entry {id}"));
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).map_err(|_| wrong())?;
    at.format(TIMESTAMP).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::{Event, Message, Room, SenderType};

    fn entry(content: &Content<'_>) -> Entry {
        let room = Room::new("team:1").unwrap();
        let envelope = content.encode().into();
        Entry { id: EntryId::new(1_700_000_000_005, 2), room, seq: 7, kind: content.entry_kind(), envelope }
    }

    fn message(body: &str) -> Content<'_> {
        let sender_type = SenderType::User;
        Content::Message(Message { user: "alice", device: "d", cid: "c", kind: "text", body, sender_type, file: None })
    }

    fn event() -> Content<'static> {
        Content::Event(Event { event: "user_joined", user: Some("bob"), data: None })
    }

    #[test]
    fn a_message_is_its_frame_with_type_and_time() {
        let item = Item::new(PartitionId(3), &entry(&message(r#"{"text":"hé\n"}"#)), false).unwrap();
        assert_eq!(item.id, "msg_3_1700000000005-2");
        let body: Value = serde_json::from_slice(&item.body).unwrap();
        assert_eq!(body["type"], "message");
        assert_eq!(body["timestamp"], "2023-11-14T22:13:20.005Z");
        assert_eq!(body["data"]["type"], "message");
        assert_eq!(body["data"]["room"], "team:1");
        assert_eq!(body["data"]["id"], "1700000000005-2");
        assert_eq!(body["data"]["seq"], 7);
        assert_eq!(body["data"]["body"]["text"], "hé\n");
    }

    #[test]
    fn an_event_goes_by_its_own_name() {
        let item = Item::new(PartitionId(0), &entry(&event()), true).unwrap();
        let body: Value = serde_json::from_slice(&item.body).unwrap();
        assert_eq!((&body["type"], &body["data"]["event"]), (&"user_joined".into(), &"user_joined".into()));
        assert_eq!(body["data"]["user"], "bob");
        assert!(item.replayed);
    }

    #[test]
    fn the_same_entry_gives_the_same_bytes() {
        let entry = entry(&message(r#"{"b":1,"a":[1.50,2e3]}"#));
        let bodies: Vec<_> = (0..3).map(|_| Item::new(PartitionId(1), &entry, false).unwrap().body).collect();
        assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_damaged_envelope_is_an_error() {
        let mut broken = entry(&message("1"));
        broken.envelope = broken.envelope.slice(..4);
        assert_eq!(Item::new(PartitionId(0), &broken, false).unwrap_err().kind(), Kind::Corrupt);
        broken.kind = EntryKind::Event;
        assert_eq!(Item::new(PartitionId(0), &broken, false).unwrap_err().kind(), Kind::Corrupt);
    }

    /// Checks a value against the parts of JSON Schema that ours uses.
    fn conforms(schema: &Value, root: &Value, value: &Value) -> Result<(), String> {
        if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let name = reference.strip_prefix("#/$defs/").ok_or("an unknown reference")?;
            return conforms(&root["$defs"][name], root, value);
        }
        if let Some(options) = schema.get("oneOf").and_then(Value::as_array) {
            let fitting = options.iter().filter(|option| conforms(option, root, value).is_ok()).count();
            return if fitting == 1 { Ok(()) } else { Err(format!("{fitting} of oneOf fit")) };
        }
        if schema.get("const").is_some_and(|wanted| wanted != value) {
            return Err(format!("{value} is not {}", schema["const"]));
        }
        let fits = match schema.get("type").and_then(Value::as_str) {
            Some("object") => value.is_object(),
            Some("string") => value.is_string(),
            Some("integer") => value.is_u64(),
            Some(other) => return Err(format!("this check doesn't know {other}")),
            None => true,
        };
        if !fits {
            return Err(format!("{value} is no {}", schema["type"]));
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if value.get(name).is_none() {
                return Err(format!("{name} is missing"));
            }
        }
        for (name, inner) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(known) => conforms(known, root, inner).map_err(|e| format!("{name}: {e}"))?,
                None if schema["additionalProperties"] == false => return Err(format!("{name} is not in the schema")),
                None => {}
            }
        }
        Ok(())
    }

    #[test]
    fn bodies_are_as_the_schema_says() {
        let schema: Value = serde_json::from_str(include_str!("../../docs/callback.schema.json")).unwrap();
        let file = crate::model::FileRef { url: "https://example.org/a", name: "a.png" };
        let Content::Message(plain) = message("null") else { unreachable!() };
        let full = Content::Message(Message { sender_type: SenderType::Service, file: Some(file), ..plain });
        let data = Content::Event(Event { event: "room_closed", user: None, data: Some(r#"{"by":"x"}"#) });
        for content in [message("[1]"), full, event(), data] {
            let item = Item::new(PartitionId(1), &entry(&content), false).unwrap();
            let body: Value = serde_json::from_slice(&item.body).unwrap();
            conforms(&schema, &schema, &body).unwrap_or_else(|e| panic!("{e} in {body}"));
        }
        assert!(conforms(&schema, &schema, &serde_json::json!({"type": "message", "timestamp": "x"})).is_err());
    }
}
