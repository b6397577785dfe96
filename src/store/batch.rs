//! What one transaction writes, as columns.
//!
//! # Design
//! Columns are bound as arrays, so entries are taken apart into columns at once and borrow from their
//! envelopes: nothing is copied before it is sent.

use std::collections::BTreeMap;

use super::rows::signed;
use crate::error::Result;
use crate::model::{Cursor, Entry, EntryId, Event, EventName, Item, Message, Partitions};

/// The rows of some entries, borrowed from them.
#[derive(Debug, Default)]
pub struct Batch<'a> {
    pub(super) messages: Messages<'a>,
    pub(super) events: Events<'a>,
    pub(super) joins: Stays<'a>,
    pub(super) leaves: Stays<'a>,
    pub(super) rooms: BTreeMap<&'a str, RoomRow>,
    pub(super) is_new: bool,
}

/// Columns that every entry has.
#[derive(Debug, Default)]
pub(super) struct Places<'a> {
    pub(super) room: Vec<&'a str>,
    pub(super) ms: Vec<i64>,
    pub(super) n: Vec<i64>,
    pub(super) seq: Vec<i64>,
    pub(super) slot: Vec<i32>,
}

#[derive(Debug, Default)]
pub(super) struct Messages<'a> {
    pub(super) at: Places<'a>,
    pub(super) user: Vec<&'a str>,
    pub(super) device: Vec<&'a str>,
    pub(super) cid: Vec<&'a str>,
    pub(super) kind: Vec<&'a str>,
    pub(super) body: Vec<&'a str>,
    pub(super) sender_type: Vec<&'a str>,
    pub(super) file_url: Vec<Option<&'a str>>,
    pub(super) file_name: Vec<Option<&'a str>>,
}

#[derive(Debug, Default)]
pub(super) struct Events<'a> {
    pub(super) at: Places<'a>,
    pub(super) event: Vec<&'a str>,
    pub(super) user: Vec<Option<&'a str>>,
    pub(super) data: Vec<Option<&'a str>>,
}

/// Begins or ends of stays.
#[derive(Debug, Default)]
pub(super) struct Stays<'a> {
    pub(super) room: Vec<&'a str>,
    pub(super) user: Vec<&'a str>,
    pub(super) ms: Vec<i64>,
    pub(super) n: Vec<i64>,
}

/// What a batch says of a room.
#[derive(Debug, Clone, Copy)]
pub(super) struct RoomRow {
    pub(super) head: Cursor,
    pub(super) first_ms: u64,
    pub(super) closed_ms: Option<u64>,
}

impl<'a> Batch<'a> {
    /// The rows of these entries.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) if an envelope can't be opened.
    pub fn of(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self> {
        let mut batch = Self::default();
        for entry in entries {
            batch.push(entry)?;
        }
        Ok(batch)
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt) if its envelope can't be opened; nothing was added then.
    pub fn push(&mut self, entry: &'a Entry) -> Result<()> {
        match entry.open()? {
            Item::Message(message) => {
                self.messages.at.push(entry);
                self.messages.push(message);
                self.room(entry, None);
            }
            Item::Event(event) => {
                self.events.at.push(entry);
                self.events.push(event);
                self.stay(entry, event);
                let closed = event.event == EventName::RoomClosed.as_str();
                self.room(entry, closed.then_some(entry.id.ms));
            }
        }
        Ok(())
    }

    /// Says that its rows were probably never written before: then they are written faster. Being wrong
    /// costs a transaction that fails and is made again.
    #[must_use]
    pub fn probably_new(mut self, is_new: bool) -> Self {
        self.is_new = is_new;
        self
    }

    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.messages.at.ms.len() + self.events.at.ms.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The times of its rows.
    pub(super) fn times(&self) -> impl Iterator<Item = i64> + '_ {
        self.messages.at.ms.iter().chain(&self.events.at.ms).copied()
    }

    fn stay(&mut self, entry: &'a Entry, event: Event<'a>) {
        let stays = match event.event {
            name if name == EventName::UserJoined.as_str() => &mut self.joins,
            name if name == EventName::UserLeft.as_str() => &mut self.leaves,
            _ => return,
        };
        let Some(user) = event.user else { return };
        stays.room.push(&entry.room);
        stays.user.push(user);
        stays.ms.push(signed(entry.id.ms));
        stays.n.push(signed(entry.id.n));
    }

    fn room(&mut self, entry: &'a Entry, closed_ms: Option<u64>) {
        let first = RoomRow { head: Cursor::START, first_ms: entry.id.ms, closed_ms };
        let row = self.rooms.entry(&entry.room).or_insert(first);
        row.head = Cursor::new(row.head.id.max(entry.id), row.head.seq.max(entry.seq));
        row.first_ms = row.first_ms.min(entry.id.ms);
        row.closed_ms = row.closed_ms.or(closed_ms);
    }
}

impl<'a> Places<'a> {
    fn push(&mut self, entry: &'a Entry) {
        let EntryId { ms, n } = entry.id;
        self.room.push(&entry.room);
        self.ms.push(signed(ms));
        self.n.push(signed(n));
        self.seq.push(signed(entry.seq));
        self.slot.push(i32::from(Partitions::slot(&entry.room)));
    }
}

impl<'a> Messages<'a> {
    fn push(&mut self, message: Message<'a>) {
        self.user.push(message.user);
        self.device.push(message.device);
        self.cid.push(message.cid);
        self.kind.push(message.kind);
        self.body.push(message.body);
        self.sender_type.push(message.sender_type.as_str());
        self.file_url.push(message.file.map(|file| file.url));
        self.file_name.push(message.file.map(|file| file.name));
    }
}

impl<'a> Events<'a> {
    fn push(&mut self, event: Event<'a>) {
        self.event.push(event.event);
        self.user.push(event.user);
        self.data.push(event.data);
    }
}
