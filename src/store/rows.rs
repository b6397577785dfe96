//! Rows as entries: the envelope is made again from the columns.

use bytes::Bytes;

use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, EntryKind, Event, FileRef, Item, Message, Room, SenderType};

/// One row of `messages` or `room_events`. The columns that both have come first; a message has no
/// `event`, an event none of the rest.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    room: String,
    ms: i64,
    n: i64,
    seq: i64,
    event: Option<String>,
    user_id: Option<String>,
    device: Option<String>,
    cid: Option<String>,
    kind: Option<String>,
    body: Option<String>,
    sender_type: Option<String>,
    file_url: Option<String>,
    file_name: Option<String>,
}

/// The columns of [`Row`] from `messages`.
macro_rules! message_columns {
    () => {
        "room, ms, n, seq, NULL::text AS event, user_id, device, cid, kind, body::text AS body, sender_type, \
         file_url, file_name"
    };
}

/// The columns of [`Row`] from `room_events`.
macro_rules! event_columns {
    () => {
        "room, ms, n, seq, event, user_id, NULL::text AS device, NULL::text AS cid, NULL::text AS kind, \
         data::text AS body, NULL::text AS sender_type, NULL::text AS file_url, NULL::text AS file_name"
    };
}

pub(super) use {event_columns, message_columns};

impl Row {
    pub(super) fn id(&self) -> EntryId {
        EntryId::new(unsigned(self.ms), unsigned(self.n))
    }

    pub(super) fn into_entry(self) -> Result<Entry> {
        let id = self.id();
        let corrupt = || Error::new(Kind::Corrupt, format!("read row {id} of the archive"));
        let room = Room::new(&self.room).map_err(|e| corrupt().caused_by(e))?;
        let body = self.body.as_deref().map(compact);
        let (kind, envelope) = match &self.event {
            Some(event) => {
                let item = Item::Event(Event { event, user: self.user_id.as_deref(), data: body.as_deref() });
                (EntryKind::Event, item.encode())
            }
            None => {
                let file = self.file_url.as_deref();
                let file = file.map(|url| FileRef { url, name: self.file_name.as_deref().unwrap_or_default() });
                let item = Item::Message(Message {
                    user: self.user_id.as_deref().ok_or_else(corrupt)?,
                    device: self.device.as_deref().ok_or_else(corrupt)?,
                    cid: self.cid.as_deref().ok_or_else(corrupt)?,
                    kind: self.kind.as_deref().ok_or_else(corrupt)?,
                    body: body.as_deref().ok_or_else(corrupt)?,
                    sender_type: sender_type(self.sender_type.as_deref()).ok_or_else(corrupt)?,
                    file,
                });
                (EntryKind::Message, item.encode())
            }
        };
        Ok(Entry { id, room, seq: unsigned(self.seq), kind, envelope: Bytes::from(envelope) })
    }
}

fn sender_type(name: Option<&str>) -> Option<SenderType> {
    [SenderType::User, SenderType::System, SenderType::Service].into_iter().find(|t| Some(t.as_str()) == name)
}

/// A part of an id, or a seq, as Postgres holds it. Redis' upper half of `u64` is only ever a bound
/// ("to the end"), and every row is below it.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The other way; a column never holds less than 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// `jsonb` as text has a space after each colon and comma; bodies travel without.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut quoted, mut escaped) = (false, false);
    for c in json.chars() {
        if quoted {
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c == '"' {
            quoted = true;
        } else if c.is_ascii_whitespace() {
            continue;
        }
        compact.push(c);
    }
    compact
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_go_except_in_strings() {
        let text = r#"{"a b": [1, 2, "x, \" y: z", "\\"], "c": " "}"#;
        assert_eq!(compact(text), r#"{"a b":[1,2,"x, \" y: z","\\"],"c":" "}"#);
    }
}
