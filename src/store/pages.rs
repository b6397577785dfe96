//! Parts of one room's history, messages and events as one, in the order of their ids.
//!
//! Nothing here looks at a checkpoint: the caller reads it first ([`Store::checkpoint`]) and passes
//! it as the upper bound, because only up to there the archive is complete.

use sqlx::postgres::PgRow;

use super::failure::failed;
use super::rows::{self, event_columns, message_columns, signed, unsigned};
use super::{Store, checkpoints};
use crate::error::Result;
use crate::model::{Cursor, Entry, EntryId, Room};

/// Entries, oldest first, and whether there are more in the direction that was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Slice {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether the limit or the bytes cut it short.
    pub more: bool,
}

// The bounds on `ms` alone repeat what the pairs say: months are pruned by them only.
const AFTER: &str = concat!(
    "SELECT * FROM ((SELECT ",
    message_columns!(),
    " FROM messages WHERE room = $1 AND ms BETWEEN $2 AND $4 AND (ms, n) > ($2, $3) AND (ms, n) <= ($4, $5)",
    " ORDER BY ms, n LIMIT $6) UNION ALL (SELECT ",
    event_columns!(),
    " FROM room_events WHERE room = $1 AND ms BETWEEN $2 AND $4 AND (ms, n) > ($2, $3) AND (ms, n) <= ($4, $5)",
    " ORDER BY ms, n LIMIT $6)) AS both_kinds ORDER BY ms, n LIMIT $6",
);

const MESSAGE_BY_SEQ: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages WHERE room = $1 AND seq = $2 ORDER BY ms DESC, n DESC LIMIT 1"
);

const ENTRY_AT: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages WHERE room = $1 AND ms = $2 AND n = $3 UNION ALL SELECT ",
    event_columns!(),
    " FROM room_events WHERE room = $1 AND ms = $2 AND n = $3 LIMIT 1"
);

const MESSAGES_BEFORE_SEQ: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages WHERE room = $1 AND seq < $2 AND ms <= $3 AND (ms, n) <= ($3, $4) ORDER BY seq DESC LIMIT $5"
);

const MESSAGES_AFTER_SEQ: &str = concat!(
    "SELECT ",
    message_columns!(),
    " FROM messages WHERE room = $1 AND seq > $2 AND ms <= $3 AND (ms, n) <= ($3, $4) ORDER BY seq LIMIT $5"
);

const EVENTS_BETWEEN: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM room_events WHERE room = $1 AND ms BETWEEN $2 AND $4 AND (ms, n) > ($2, $3) AND (ms, n) < ($4, $5)",
    " ORDER BY ms, n LIMIT $6"
);

/// Rows that are read at first, before it is known how large they are.
const STEP_ROWS_FIRST: u32 = 200;

/// Events that come along with a page of messages, at most per message of the limit: a room in which
/// thousands came and went between two messages must not make a page of any size.
const EVENTS_PER_MESSAGE_MAX: i64 = 20;

impl Store {
    /// Entries with `after < id ≤ upto`, oldest first: `limit` at most, and no more than `bytes` of
    /// envelopes (but one entry always).
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn page_after(
        &self,
        room: &Room,
        after: EntryId,
        upto: EntryId,
        limit: u32,
        bytes: usize,
    ) -> Result<Slice> {
        if upto <= after || limit == 0 {
            return Ok(Slice { entries: Vec::new(), more: upto > after && limit == 0 });
        }
        let (mut slice, mut held, mut position) = (Slice::default(), 0, after);
        loop {
            let left = limit - u32::try_from(slice.entries.len()).unwrap_or(limit);
            let mean = held / slice.entries.len().max(1);
            let step = match bytes.saturating_sub(held).checked_div(mean) {
                // What a row takes isn't known yet: rows that don't fit into the page would be read in vain.
                None => left.min(STEP_ROWS_FIRST),
                Some(fitting) => left.min(u32::try_from(fitting).unwrap_or(u32::MAX).max(1)),
            };
            // One more than is taken says whether there is more.
            let rows = self.rows_after(room, position, upto, step + 1).await?;
            slice.more = rows.len() > step as usize;
            for entry in rows::entries(&rows[..rows.len().min(step as usize)])? {
                held = held.saturating_add(entry.envelope.len());
                if held > bytes && !slice.entries.is_empty() {
                    slice.more = true;
                    return Ok(slice);
                }
                position = entry.id;
                slice.entries.push(entry);
            }
            if !slice.more || slice.entries.len() >= limit as usize || held >= bytes {
                return Ok(slice);
            }
        }
    }

    async fn rows_after(&self, room: &Room, after: EntryId, upto: EntryId, limit: u32) -> Result<Vec<PgRow>> {
        sqlx::query(AFTER)
            .bind(room.as_str())
            .bind(signed(after.ms))
            .bind(signed(after.n))
            .bind(signed(upto.ms))
            .bind(signed(upto.n))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read a page of the archive", e))
    }

    /// The first entry after `id`, up to `upto`.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn first_after(&self, room: &Room, id: EntryId, upto: EntryId) -> Result<Option<Entry>> {
        Ok(self.page_after(room, id, upto, 1, usize::MAX).await?.entries.pop())
    }

    /// The first message after `id`, up to `upto`: what proves a cursor.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn first_message_after(&self, room: &Room, id: EntryId, upto: EntryId) -> Result<Option<Cursor>> {
        let first: Option<(i64, i64, i64)> = sqlx::query_as(
            "SELECT ms, n, seq FROM messages WHERE room = $1 AND ms BETWEEN $2 AND $4 AND (ms, n) > ($2, $3) \
             AND (ms, n) <= ($4, $5) ORDER BY ms, n LIMIT 1",
        )
        .bind(room.as_str())
        .bind(signed(id.ms))
        .bind(signed(id.n))
        .bind(signed(upto.ms))
        .bind(signed(upto.n))
        .fetch_optional(&self.pool)
        .await
        .map_err(|e| failed("read the archive", e))?;
        Ok(first.map(|(ms, n, seq)| Cursor::new(checkpoints::id(ms, n), unsigned(seq))))
    }

    /// The message with this number.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn message_by_seq(&self, room: &Room, seq: u64) -> Result<Option<Entry>> {
        let row = sqlx::query(MESSAGE_BY_SEQ)
            .bind(room.as_str())
            .bind(signed(seq))
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read a message of the archive", e))?;
        row.as_ref().map(rows::entry).transpose()
    }

    /// The entry at this place.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn entry_at(&self, room: &Room, id: EntryId) -> Result<Option<Entry>> {
        let row = sqlx::query(ENTRY_AT)
            .bind(room.as_str())
            .bind(signed(id.ms))
            .bind(signed(id.n))
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read an entry of the archive", e))?;
        row.as_ref().map(rows::entry).transpose()
    }

    /// The newest `limit` messages with a lower number, at or before `upto`, with the events between
    /// them; oldest first. With the newest page of a room (`before` beyond its end) the events that
    /// follow its last message come along too.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn page_before_seq(&self, room: &Room, before: u64, upto: EntryId, limit: u32) -> Result<Slice> {
        let end = match self.message_by_seq(room, before).await? {
            Some(message) if message.id <= upto => message.id,
            _ => upto.next(),
        };
        let (mut messages, more) = self.messages(MESSAGES_BEFORE_SEQ, room, before, upto, limit).await?;
        messages.reverse();
        let Some(first) = messages.first().map(|message| message.id) else { return Ok(Slice::default()) };
        // Events before the room's first message belong to its first page.
        let begin = if more { first } else { EntryId::ZERO };
        self.with_events(room, messages, begin, end, more, limit).await
    }

    /// The oldest `limit` messages with a higher number, at or before `upto`, with the events between
    /// them; oldest first.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn page_after_seq(&self, room: &Room, after: u64, upto: EntryId, limit: u32) -> Result<Slice> {
        let (messages, more) = self.messages(MESSAGES_AFTER_SEQ, room, after, upto, limit).await?;
        let begin = self.message_by_seq(room, after).await?.map(|message| message.id).unwrap_or_default();
        let end = match messages.last() {
            Some(last) if more => last.id,
            _ => upto.next(),
        };
        self.with_events(room, messages, begin, end, more, limit).await
    }

    async fn messages(
        &self,
        query: &'static str,
        room: &Room,
        seq: u64,
        upto: EntryId,
        limit: u32,
    ) -> Result<(Vec<Entry>, bool)> {
        let rows = sqlx::query(query)
            .bind(room.as_str())
            .bind(signed(seq))
            .bind(signed(upto.ms))
            .bind(signed(upto.n))
            .bind(i64::from(limit) + 1)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read messages of the archive", e))?;
        let more = rows.len() > limit as usize;
        Ok((rows::entries(&rows[..rows.len().min(limit as usize)])?, more))
    }

    /// `messages` with the events with `begin < id < end` among them.
    async fn with_events(
        &self,
        room: &Room,
        mut messages: Vec<Entry>,
        begin: EntryId,
        end: EntryId,
        more: bool,
        limit: u32,
    ) -> Result<Slice> {
        let rows = sqlx::query(EVENTS_BETWEEN)
            .bind(room.as_str())
            .bind(signed(begin.ms))
            .bind(signed(begin.n))
            .bind(signed(end.ms))
            .bind(signed(end.n))
            .bind(i64::from(limit.max(1)) * EVENTS_PER_MESSAGE_MAX)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("read events of the archive", e))?;
        messages.extend(rows::entries(&rows)?);
        messages.sort_by_key(|entry| entry.id);
        Ok(Slice { entries: messages, more })
    }

    /// Lowest number of a message that the archive holds of a room; nothing if it holds none.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn floor(&self, room: &Room) -> Result<Option<u64>> {
        let floor: Option<i64> = sqlx::query_scalar("SELECT seq FROM messages WHERE room = $1 ORDER BY seq LIMIT 1")
            .bind(room.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the floor of a room", e))?;
        Ok(floor.map(unsigned))
    }

    /// The place of the oldest entry that the archive holds of a room.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn oldest(&self, room: &Room) -> Result<Option<EntryId>> {
        Ok(self.first_after(room, EntryId::ZERO, EntryId::MAX).await?.map(|entry| entry.id))
    }

    /// The end of a room as the archive knows it; nothing if it doesn't know the room.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn room_head(&self, room: &Room) -> Result<Option<Cursor>> {
        let head: Option<(i64, i64, i64)> = sqlx::query_as("SELECT head_ms, head_n, seq FROM rooms WHERE room = $1")
            .bind(room.as_str())
            .fetch_optional(&self.pool)
            .await
            .map_err(|e| failed("read the end of a room", e))?;
        Ok(head.map(|(ms, n, seq)| Cursor::new(checkpoints::id(ms, n), unsigned(seq))))
    }
}
