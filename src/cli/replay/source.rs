//! A range of entries of a partition: from the log, and beyond it from the archive.
//!
//! # Design
//! The log comes first wherever it has something: what is replayed to the archive is just what the
//! archive may lack. What the log held when it was asked for is whole only if the log, asked
//! afterwards, still begins before that place; else the archive is asked for what was trimmed.

use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId, Partitions, Room};
use crate::store::{Range, Store};
use crate::stream::Redis;

/// Entries of one page at most.
const PAGE_ENTRIES: u32 = 500;

/// What is to be read, of one partition.
pub(super) struct Source {
    pub(super) redis: Redis,
    pub(super) store: Store,
    pub(super) partitions: Partitions,
    pub(super) partition: PartitionId,
    pub(super) room: Option<Room>,
    /// The last entry of the range, or where it would be.
    pub(super) until: EntryId,
}

/// Where a page came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Log,
    Archive,
}

/// A part of the range.
#[derive(Debug)]
pub(super) struct Page {
    /// Oldest first. There may be none although there are more to come.
    pub(super) entries: Vec<Entry>,
    /// Entries of the log that can't be read, and are left out.
    pub(super) unreadable: u64,
    /// Everything up to here was given.
    pub(super) upto: EntryId,
    /// Whether this is the end of the range.
    pub(super) ended: bool,
    pub(super) place: Place,
}

impl Source {
    /// What comes after `after`, a page of it.
    pub(super) async fn after(&self, after: EntryId) -> Result<Page> {
        let log = self.redis.keys().log(self.partition);
        let raw = self.redis.range(&log, after.next(), self.until, u64::from(PAGE_ENTRIES)).await?;
        let begin = self.redis.first_id(&log).await?.unwrap_or(EntryId::MAX);
        if begin > after.next() && after < self.until {
            // Something may have been before the log's beginning.
            return self.archived(after, begin.previous().min(self.until)).await;
        }
        let ended = raw.len() < PAGE_ENTRIES as usize;
        let upto = if ended { self.until.max(after) } else { raw.last().map_or(after, |last| last.id) };
        let (mut entries, mut unreadable) = (Vec::new(), 0);
        for raw in raw {
            match raw.into_entry() {
                Ok(entry) if self.room.as_ref().is_none_or(|room| *room == entry.room) => entries.push(entry),
                Ok(_) => (),
                Err(_) => unreadable += 1,
            }
        }
        Ok(Page { entries, unreadable, upto, ended, place: Place::Log })
    }

    /// How many entries there are after `after`: in the archive beyond the log, and in the log.
    pub(super) async fn count(&self, after: EntryId) -> Result<(u64, u64)> {
        let begin = self.redis.first_id(&self.redis.keys().log(self.partition)).await?.unwrap_or(EntryId::MAX);
        let (mut archived, mut position) = (0, after);
        if begin > after.next() && after < self.until {
            position = begin.previous().min(self.until);
            archived = self.store.count_range(&self.range(), after, position).await?;
        }
        let mut logged = 0;
        while position < self.until {
            let page = self.after(position).await?;
            match page.place {
                Place::Log => logged += page.entries.len() as u64,
                Place::Archive => archived += page.entries.len() as u64,
            }
            position = page.upto;
            if page.ended {
                break;
            }
        }
        Ok((archived, logged))
    }

    async fn archived(&self, after: EntryId, upto: EntryId) -> Result<Page> {
        let entries = self.store.range(&self.range(), after, upto, PAGE_ENTRIES).await?;
        let full = entries.len() >= PAGE_ENTRIES as usize;
        let upto = entries.last().filter(|_| full).map_or(upto, |last| last.id);
        Ok(Page { entries, unreadable: 0, ended: upto >= self.until, upto, place: Place::Archive })
    }

    fn range(&self) -> Range {
        match &self.room {
            Some(room) => Range::Room(room.clone()),
            None => Range::Partition(self.partitions, self.partition),
        }
    }
}
