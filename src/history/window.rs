//! The newest part of a partition's log, read backwards: shared by all that look for a message.

use std::collections::{HashMap, VecDeque};

use super::reading::{Found, Seek};
use crate::error::Result;
use crate::model::{Cursor, Entry, EntryId, EntryKind, EventName, Item, Room};
use crate::stream::{LogEntry, Redis};

/// Entries of one step backwards: a join of a busy room is satisfied by the first.
const STEP_ENTRIES: u64 = 500;
/// Bytes that a window holds at most: what isn't found by then would need more memory than it is worth.
const BYTES_MAX: usize = 64 << 20;

/// Everything that some rooms have after [`Window::low`].
pub(super) struct Window {
    low: EntryId,
    high: EntryId,
    rooms: HashMap<Room, Held>,
    bytes: usize,
    scanned: u64,
}

/// One room's part, oldest first.
#[derive(Default)]
struct Held {
    entries: VecDeque<Entry>,
    lowest: Option<u64>,
    created: bool,
}

/// How far a window may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Depth {
    /// Entries at most, over the window's whole life.
    pub(super) entries: u64,
    /// Nothing at or before this is of interest.
    pub(super) down_to: EntryId,
}

impl Window {
    /// An empty window at the end of the log, which had given ids up to `last`.
    pub(super) fn new(rooms: impl IntoIterator<Item = Room>, last: EntryId) -> Self {
        let rooms = rooms.into_iter().map(|room| (room, Held::default())).collect();
        Self { low: EntryId::MAX, high: last, rooms, bytes: 0, scanned: 0 }
    }

    /// Reads on backwards until every seek is found, or as deep as is allowed.
    pub(super) async fn extend(
        &mut self,
        redis: &Redis,
        key: &str,
        wanted: &[(Room, Seek)],
        depth: Depth,
    ) -> Result<()> {
        let mut open: Vec<&(Room, Seek)> = wanted.iter().collect();
        loop {
            open.retain(|(room, seek)| !self.holds(room, *seek));
            let left = depth.entries.saturating_sub(self.scanned);
            if open.is_empty() || left == 0 || self.low <= depth.down_to || self.bytes > BYTES_MAX {
                return Ok(());
            }
            let count = STEP_ENTRIES.min(left);
            let (begin, down_to) = (self.low, depth.down_to.next());
            let read = redis.scan_back(key, begin, down_to, count, |raw| self.keep(raw)).await?;
            if begin == EntryId::MAX {
                self.high = self.high.max(read.first.unwrap_or_default());
            }
            if let Some(oldest) = read.last {
                self.low = oldest.previous();
            }
            if read.ended {
                self.low = self.low.min(depth.down_to);
            }
            self.scanned += read.entries;
        }
    }

    fn keep(&mut self, raw: &LogEntry<'_>) {
        let Some(room) = raw.room().and_then(|room| self.rooms.get_key_value(room)).map(|(room, _)| room.clone())
        else {
            return;
        };
        // A damaged entry is the archive's to park; here its number is missing, and that is seen.
        let Ok(entry) = whole(raw, &room) else { return };
        let Some(held) = self.rooms.get_mut(&room) else { return };
        if entry.kind == EntryKind::Message {
            held.lowest = Some(entry.seq);
        }
        held.created |= is_beginning(&entry);
        self.bytes += entry.envelope.len();
        held.entries.push_front(entry);
    }

    /// Whether what is looked for is in the window, or can't be before it.
    fn holds(&self, room: &Room, seek: Seek) -> bool {
        self.rooms.get(room).is_some_and(|held| match seek {
            Seek::Oldest => held.created,
            Seek::At(seq) | Seek::After(seq) => held.lowest.is_some_and(|lowest| lowest <= seq),
        })
    }

    /// Where the message that is looked for is, if the window holds it.
    pub(super) fn find(&self, room: &Room, seek: Seek) -> Option<Found> {
        let held = self.rooms.get(room)?;
        let message = |seq: u64| held.messages().find(|entry| entry.seq == seq);
        match seek {
            Seek::Oldest => held.created.then_some(Found::at(Cursor::START)),
            Seek::At(seq) => message(seq).map(|entry| Found::at(before(entry))),
            Seek::After(seq) => message(seq).map(|entry| Found::at(entry.cursor())),
        }
    }

    /// Where to begin in a room of which nothing is held before this window.
    pub(super) fn first(&self, room: &Room, seek: Seek, head: Cursor) -> Found {
        let oldest = self.rooms.get(room).and_then(|held| held.messages().next());
        let after = match oldest {
            Some(entry) if seek.seq() >= entry.seq => return self.beyond(room, seek, head),
            Some(entry) if entry.seq == 1 => Cursor::START,
            Some(entry) => before(entry),
            None if head.seq == 0 => Cursor::START,
            None => head,
        };
        Found::instead(seek, after)
    }

    /// Where to begin when the message that is looked for should be in the window and is missing.
    pub(super) fn beyond(&self, room: &Room, seek: Seek, head: Cursor) -> Found {
        let next = self.rooms.get(room).and_then(|held| held.messages().find(|entry| entry.seq > seek.seq()));
        Found::instead(seek, next.map_or(head, before))
    }

    /// Whether the window shows the room from its first message on, whatever the archive holds.
    pub(super) fn shows_first_message(&self, room: &Room) -> bool {
        self.rooms.get(room).is_some_and(|held| held.created || held.lowest == Some(1))
    }

    /// Everything after this was read.
    pub(super) fn low(&self) -> EntryId {
        self.low
    }

    /// Up to here everything was read.
    pub(super) fn high(&self) -> EntryId {
        self.high
    }

    /// Entries of the log that were read.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// What it holds of a room after `after`, oldest first.
    pub(super) fn entries(&self, room: &Room, after: EntryId) -> impl Iterator<Item = &Entry> {
        self.rooms.get(room).into_iter().flat_map(|held| &held.entries).skip_while(move |entry| entry.id <= after)
    }
}

impl Held {
    fn messages(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.kind == EntryKind::Message)
    }
}

/// The cursor of who has everything before a message.
pub(super) fn before(message: &Entry) -> Cursor {
    Cursor::new(message.id.previous(), message.seq.saturating_sub(1))
}

/// The entry with an envelope of its own: as it came, it keeps the whole answer of Redis in memory.
pub(super) fn owned(entry: Entry) -> Entry {
    Entry { envelope: bytes::Bytes::copy_from_slice(&entry.envelope), ..entry }
}

/// An entry of this room that can be delivered: opened, to see it.
pub(super) fn whole(raw: &LogEntry<'_>, room: &Room) -> Result<Entry> {
    let entry = raw.entry_of(room)?;
    entry.open()?;
    Ok(entry)
}

/// Whether nothing of the room can be before this entry.
pub(super) fn is_beginning(entry: &Entry) -> bool {
    let created = EventName::RoomCreated.as_str();
    entry.kind == EntryKind::Event
        && entry.seq == 0
        && matches!(entry.open(), Ok(Item::Event(event)) if event.event == created)
}
