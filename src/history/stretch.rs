//! Everything between two ids, for tools: `millstream replay`, exports.

use super::History;
use super::window::owned;
use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId};
use crate::store::Range;

/// Entries of the log that one part of a stretch may look at while it finds nothing.
const LOG_STEP: u64 = 1_000;

/// A part of a stretch: entries in order, and from where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The entries, oldest first. There may be none although there are more to come.
    pub entries: Vec<Entry>,
    /// Everything up to here was given: the next part is the one after it.
    pub upto: EntryId,
    /// Whether this was the last part.
    pub ended: bool,
}

impl History {
    /// The next part of a stretch: entries with `after < id ≤ until` of a room or of its whole
    /// partition, from the archive as far as it reaches, then from the log; `limit` at most.
    /// Called again with [`Stretch::upto`] until it has ended, it gives every entry once.
    ///
    /// # Errors
    /// As Postgres and Redis answer: a stretch is whole or fails.
    pub async fn stretch(
        &self,
        partition: PartitionId,
        range: &Range,
        after: EntryId,
        until: EntryId,
        limit: u32,
    ) -> Result<Stretch> {
        loop {
            let checkpoint = self.archive.checkpoint(partition).await?;
            if after < checkpoint {
                return self.stretch_of_archive(range, after, until, checkpoint, limit).await;
            }
            let stretch = self.stretch_of_log(partition, range, after, until, limit).await?;
            let begin = self.redis.first_id(&self.redis.keys().log(partition)).await?.unwrap_or(EntryId::MAX);
            // What was trimmed meanwhile is archived; what was gone before is nowhere.
            if after.next() >= begin || self.archive.checkpoint(partition).await? <= after {
                return Ok(stretch);
            }
        }
    }

    async fn stretch_of_archive(
        &self,
        range: &Range,
        after: EntryId,
        until: EntryId,
        checkpoint: EntryId,
        limit: u32,
    ) -> Result<Stretch> {
        let end = checkpoint.min(until);
        let entries = self.archive.range(range, after, end, limit.max(1)).await?;
        let upto = entries.last().filter(|_| entries.len() >= limit.max(1) as usize).map_or(end, |entry| entry.id);
        Ok(Stretch { entries, upto, ended: upto >= until })
    }

    async fn stretch_of_log(
        &self,
        partition: PartitionId,
        range: &Range,
        after: EntryId,
        until: EntryId,
        limit: u32,
    ) -> Result<Stretch> {
        let count = match range {
            Range::Partition(..) => u64::from(limit.max(1)).min(LOG_STEP),
            Range::Room(_) => LOG_STEP,
        };
        let raw = self.redis.range(&self.redis.keys().log(partition), after.next(), until, count).await?;
        let ended = (raw.len() as u64) < count;
        let mut upto = raw.last().map_or(after, |entry| entry.id);
        let mut entries: Vec<Entry> = Vec::new();
        for entry in raw.into_iter().filter_map(|raw| raw.into_entry().ok()) {
            let wanted = match range {
                Range::Room(room) => entry.room == *room,
                Range::Partition(..) => true,
            };
            if wanted && entries.len() >= limit.max(1) as usize {
                upto = entries.last().map_or(upto, |last| last.id);
                return Ok(Stretch { entries, upto, ended: false });
            }
            if wanted {
                entries.push(owned(entry));
            }
        }
        Ok(Stretch { entries, upto, ended })
    }
}
