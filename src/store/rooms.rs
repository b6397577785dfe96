//! What the archive knows of every room: what an emptied Redis is filled from.

use super::Store;
use super::checkpoints::id;
use super::failure::failed;
use super::rows::{signed, unsigned};
use crate::error::{Error, Kind, Result};
use crate::model::{Cursor, EntryId, PartitionId, Partitions, Room};

/// A room as the archive left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomState {
    /// The room.
    pub room: Room,
    /// Its last entry and last number.
    pub head: Cursor,
    /// Whether it takes no more messages.
    pub closed: bool,
}

impl Store {
    /// The rooms of a partition whose names come after `after`, `limit` at most, in the order of
    /// their names: called again with the last name until nothing comes.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn rooms_of(
        &self,
        partitions: Partitions,
        partition: PartitionId,
        after: Option<&Room>,
        limit: u32,
    ) -> Result<Vec<RoomState>> {
        let rows: Vec<(String, i64, i64, i64, bool)> = sqlx::query_as(
            "SELECT room, head_ms, head_n, seq, closed_at IS NOT NULL FROM rooms \
             WHERE slot % $1 = $2 AND room > $3 ORDER BY room LIMIT $4",
        )
        .bind(i32::from(partitions.count()))
        .bind(i32::from(partition.0))
        .bind(after.map_or("", Room::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(|e| failed("read the rooms of a partition", e))?;
        rows.into_iter()
            .map(|(room, ms, n, seq, closed)| {
                let room = Room::new(&room)
                    .map_err(|e| Error::new(Kind::Corrupt, "read a room of the archive").caused_by(e))?;
                Ok(RoomState { room, head: Cursor::new(id(ms, n), unsigned(seq)), closed })
            })
            .collect()
    }

    /// The newest entry of a partition that the archive holds; the beginning if it holds none.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn newest_id(&self, partitions: Partitions, partition: PartitionId) -> Result<EntryId> {
        let newest: Option<(i64, i64)> = sqlx::query_as(
            "SELECT head_ms, head_n FROM rooms WHERE slot % $1 = $2 ORDER BY head_ms DESC, head_n DESC LIMIT 1",
        )
        .bind(i32::from(partitions.count()))
        .bind(i32::from(partition.0))
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the end of a partition", e))?;
        let newest = newest.map(|(ms, n)| id(ms, n)).unwrap_or_default();
        Ok(newest.max(self.archived(partition).await?))
    }

    /// How many messages the archive holds of a room after a number: for tools and tests.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn count_after(&self, room: &Room, seq: u64) -> Result<u64> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM messages WHERE room = $1 AND seq > $2")
            .bind(room.as_str())
            .bind(signed(seq))
            .fetch_one(&self.pool)
            .await
            .map_err(|e| failed("count messages of a room", e))?;
        Ok(unsigned(count))
    }
}
