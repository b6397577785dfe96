//! Ranges of ids over a whole partition, for `millstream replay` and for groups that were left behind.
//!
//! # Design
//! There is no index by id over all rooms (it would cost every insert a fifth of its speed), only a
//! summary per block of the table. So a page is looked for in windows of time that grow while they
//! hold little, and each window reads only the blocks that touch it.

use sqlx::postgres::PgRow;

use super::Store;
use super::failure::failed;
use super::rows::{self, event_columns, message_columns, signed};
use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId, Partitions, Room};

/// Whose entries a range holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// One room's.
    Room(Room),
    /// A partition's.
    Partition(Partitions, PartitionId),
}

/// First window of a page. At 1,000 entries a second it holds a thousand.
const WINDOW_MS_FIRST: u64 = 1_000;
/// By how much a window grows when it held less than was asked for.
const WINDOW_GROWTH: u64 = 8;

const OF_PARTITION: &str = concat!(
    "SELECT * FROM ((SELECT ",
    message_columns!(),
    " FROM messages WHERE slot % $6 = $7 AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4)",
    " ORDER BY ms, n LIMIT $5) UNION ALL (SELECT ",
    event_columns!(),
    " FROM room_events WHERE slot % $6 = $7 AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4)",
    " ORDER BY ms, n LIMIT $5)) AS both_kinds ORDER BY ms, n LIMIT $5",
);

const COUNT_OF_ROOM: &str = concat!(
    "SELECT (SELECT count(*) FROM messages WHERE room = $5",
    " AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4))",
    " + (SELECT count(*) FROM room_events WHERE room = $5",
    " AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4))",
);

const COUNT_OF_PARTITION: &str = concat!(
    "SELECT (SELECT count(*) FROM messages WHERE slot % $5 = $6",
    " AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4))",
    " + (SELECT count(*) FROM room_events WHERE slot % $5 = $6",
    " AND ms BETWEEN $1 AND $3 AND (ms, n) > ($1, $2) AND (ms, n) <= ($3, $4))",
);

impl Store {
    /// Entries with `after < id ≤ upto` of a room or a partition, oldest first, `limit` at most.
    /// Fewer than `limit` means that the range has ended.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn range(&self, range: &Range, after: EntryId, upto: EntryId, limit: u32) -> Result<Vec<Entry>> {
        match range {
            Range::Room(room) => Ok(self.page_after(room, after, upto, limit, usize::MAX).await?.entries),
            Range::Partition(partitions, partition) => {
                self.range_of_partition(*partitions, *partition, after, upto, limit).await
            }
        }
    }

    /// How many entries with `after < id ≤ upto` a room or a partition has.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn count_range(&self, range: &Range, after: EntryId, upto: EntryId) -> Result<u64> {
        let bounds = [signed(after.ms), signed(after.n), signed(upto.ms), signed(upto.n)];
        let query = match range {
            Range::Room(_) => sqlx::query_scalar(COUNT_OF_ROOM),
            Range::Partition(..) => sqlx::query_scalar(COUNT_OF_PARTITION),
        };
        let query = bounds.into_iter().fold(query, |query, bound| query.bind(bound));
        let query = match range {
            Range::Room(room) => query.bind(room.as_str()),
            Range::Partition(partitions, partition) => {
                query.bind(i32::from(partitions.count())).bind(i32::from(partition.0))
            }
        };
        let count: i64 = query.fetch_one(&self.pool).await.map_err(|e| failed("count a range of the archive", e))?;
        Ok(rows::unsigned(count))
    }

    async fn range_of_partition(
        &self,
        partitions: Partitions,
        partition: PartitionId,
        after: EntryId,
        upto: EntryId,
        limit: u32,
    ) -> Result<Vec<Entry>> {
        let mut found: Vec<Entry> = Vec::new();
        let (mut position, mut window) = (after, WINDOW_MS_FIRST);
        while position < upto && found.len() < limit as usize {
            let end = EntryId::new(position.ms.saturating_add(window), u64::MAX).min(upto);
            let wanted = limit - u32::try_from(found.len()).unwrap_or(limit);
            let rows = self.window(partitions, partition, position, end, wanted).await?;
            let full = rows.len() == wanted as usize;
            found.extend(rows::entries(&rows)?);
            if !full {
                position = end;
                window = window.saturating_mul(WINDOW_GROWTH);
            }
        }
        Ok(found)
    }

    async fn window(
        &self,
        partitions: Partitions,
        partition: PartitionId,
        after: EntryId,
        upto: EntryId,
        limit: u32,
    ) -> Result<Vec<PgRow>> {
        sqlx::query(OF_PARTITION)
            .bind(signed(after.ms))
            .bind(signed(after.n))
            .bind(signed(upto.ms))
            .bind(signed(upto.n))
            .bind(i64::from(limit))
            .bind(i32::from(partitions.count()))
            .bind(i32::from(partition.0))
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read a range of the archive", e))
    }
}
