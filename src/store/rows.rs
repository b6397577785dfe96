//! Rows as entries: the envelope is made again from the columns.

use std::borrow::Cow;

use bytes::Bytes;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::failure::failed;
use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, EntryKind, Event, FileRef, Item, Message, Room, SenderType};

/// One row of `messages` or `room_events`, borrowed from what Postgres sent. The columns that both have come
/// first; a message has no `event`, an event none of the rest.
#[derive(Debug)]
struct Row<'r> {
    room: &'r str,
    ms: i64,
    n: i64,
    seq: i64,
    event: Option<&'r str>,
    user_id: Option<&'r str>,
    device: Option<&'r str>,
    cid: Option<&'r str>,
    kind: Option<&'r str>,
    body: Option<&'r str>,
    sender_type: Option<&'r str>,
    file_url: Option<&'r str>,
    file_name: Option<&'r str>,
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

/// The entries of rows that were selected by these columns, in their order.
pub(super) fn entries(rows: &[PgRow]) -> Result<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::with_capacity(rows.len());
    for row in rows {
        let row = Row::read(row).map_err(|e| failed("read a row of the archive", e))?;
        // Rows of one room share its name.
        let room = entries.last().map(|entry| &entry.room).filter(|room| room.as_str() == row.room).cloned();
        entries.push(row.entry(room)?);
    }
    Ok(entries)
}

/// The entry of one row.
pub(super) fn entry(row: &PgRow) -> Result<Entry> {
    Row::read(row).map_err(|e| failed("read a row of the archive", e))?.entry(None)
}

impl<'r> Row<'r> {
    /// By place, and without asking each time whether a column has the type that the query gives it: that would
    /// cost more than all the rest.
    fn read(row: &'r PgRow) -> sqlx::Result<Self> {
        Ok(Self {
            room: row.try_get_unchecked(0)?,
            ms: row.try_get_unchecked(1)?,
            n: row.try_get_unchecked(2)?,
            seq: row.try_get_unchecked(3)?,
            event: row.try_get_unchecked(4)?,
            user_id: row.try_get_unchecked(5)?,
            device: row.try_get_unchecked(6)?,
            cid: row.try_get_unchecked(7)?,
            kind: row.try_get_unchecked(8)?,
            body: row.try_get_unchecked(9)?,
            sender_type: row.try_get_unchecked(10)?,
            file_url: row.try_get_unchecked(11)?,
            file_name: row.try_get_unchecked(12)?,
        })
    }

    fn entry(self, room: Option<Room>) -> Result<Entry> {
        let id = EntryId::new(unsigned(self.ms), unsigned(self.n));
        let corrupt = || Error::new(Kind::Corrupt, format!("read row {id} of the archive"));
        let room = room.map_or_else(|| Room::new(self.room), Ok).map_err(|e| corrupt().caused_by(e))?;
        let body = self.body.map(compact);
        let (kind, envelope) = match self.event {
            Some(event) => {
                let item = Item::Event(Event { event, user: self.user_id, data: body.as_deref() });
                (EntryKind::Event, item.encode())
            }
            None => {
                let file = self.file_url.map(|url| FileRef { url, name: self.file_name.unwrap_or_default() });
                let item = Item::Message(Message {
                    user: self.user_id.ok_or_else(corrupt)?,
                    device: self.device.ok_or_else(corrupt)?,
                    cid: self.cid.ok_or_else(corrupt)?,
                    kind: self.kind.ok_or_else(corrupt)?,
                    body: body.as_deref().ok_or_else(corrupt)?,
                    sender_type: sender_type(self.sender_type).ok_or_else(corrupt)?,
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

/// `jsonb` as text has a space after each colon and comma; bodies travel without. Borrows what has none.
fn compact(json: &str) -> Cow<'_, str> {
    let mut compact = String::new();
    // Everything before `copied` is in `compact`, or left out.
    let (mut at, mut copied) = (0, 0);
    while let Some(byte) = json.as_bytes().get(at) {
        if byte.is_ascii_whitespace() {
            compact.push_str(&json[copied..at]);
            copied = at + 1;
        }
        at = if *byte == b'"' { end_of_string(json, at + 1) } else { at + 1 };
    }
    if copied == 0 {
        return Cow::Borrowed(json);
    }
    compact.push_str(&json[copied..]);
    Cow::Owned(compact)
}

/// Where a string ends that begins at `at`, after its quotation mark.
fn end_of_string(json: &str, mut at: usize) -> usize {
    while let Some(len) = json[at..].find('"') {
        let escapes = json.as_bytes()[at..at + len].iter().rev().take_while(|byte| **byte == b'\\').count();
        at += len + 1;
        if escapes % 2 == 0 {
            return at;
        }
    }
    json.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_go_except_in_strings() {
        let text = r#"{"a b": [1, 2, "x, \" y: z", "\\"], "c": " "}"#;
        assert_eq!(compact(text), r#"{"a b":[1,2,"x, \" y: z","\\"],"c":" "}"#);
        assert!(matches!(compact(r#"["a b","é \" x",1]"#), Cow::Borrowed(_)));
    }
}
