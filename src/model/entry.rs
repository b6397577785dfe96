//! An entry as it comes out of the log, not yet opened.

use bytes::Bytes;

use super::{Cursor, EntryId, Item, Room};
use crate::error::Result;

/// What an entry is: the field `k` of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// `m`: what a user or the API put into a room; numbered.
    Message,
    /// `e`: a fact about a room that the system put there.
    Event,
}

impl EntryKind {
    /// The letter of the log's field `k`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Message => "m",
            Self::Event => "e",
        }
    }
}

/// One entry of the log: where it stands, whose it is, and its envelope still closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its position; `ms` is the time of acceptance.
    pub id: EntryId,
    /// Its room.
    pub room: Room,
    /// A message's number in its room; an event repeats the one before it.
    pub seq: u64,
    /// Message or event.
    pub kind: EntryKind,
    /// The envelope: MessagePack, version first. See [`Item`].
    pub envelope: Bytes,
}

impl Entry {
    /// Opens the envelope, borrowing from it.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) if it is damaged or of a version to come.
    pub fn open(&self) -> Result<Item<'_>> {
        Item::decode(self.kind, &self.envelope)
    }

    /// The cursor of who has taken this entry over.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.id, self.seq)
    }
}
