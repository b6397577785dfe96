//! Writes a batch and the checkpoint that covers it, in one transaction.
//!
//! Writing is idempotent: a transaction whose end is unclear is simply repeated.
//!
//! # Design
//! `ON CONFLICT DO NOTHING` looks into the index before each row and writes one more record of it to the WAL
//! (speculative insertion): a quarter of what the statement costs. Rows after the checkpoint are new but for a
//! commit whose answer was lost, so they are inserted without it; if one is there already, the
//! transaction fails as a whole and is made again with it.
//!
//! The columns of messages and events are taken apart beside each other, by an `unnest` each in the list of the
//! SELECT: Postgres then makes row after row. In FROM, it first puts every column away by itself, a fifth of the whole.

use std::time::Duration;

use sqlx::{Connection as _, PgConnection};

use super::Store;
use super::batch::{Batch, Events, Messages, Stays};
use super::checkpoints::{ARCHIVE, Ownership, fenced};
use super::door::{Lent, within};
use super::failure::{failed, is_duplicate};
use super::rows::signed;
use crate::error::Result;
use crate::model::{EntryId, Partitions};

/// What a batch came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Rows that are new.
    pub rows: u64,
    /// Rows that were there already.
    pub duplicates: u64,
}

const DOING: &str = "write a batch to the archive";

impl Store {
    /// Writes the rows of `batch` and moves the archive's checkpoint to `upto` (never back), if
    /// `owner` still is the partition's owner.
    ///
    /// # Errors
    /// [`Kind::Fenced`](crate::error::Kind::Fenced) if somebody else took the partition over, and
    /// nothing was written. [`Kind::PostgresData`](crate::error::Kind::PostgresData) if a row can't
    /// be stored, and nothing was. [`Kind::PostgresUnavailable`](crate::error::Kind::PostgresUnavailable)
    /// leaves it unclear: repeat.
    pub async fn commit_batch(&self, batch: &Batch<'_>, owner: Ownership, upto: EntryId) -> Result<Inserted> {
        self.make_months_of(batch.times()).await;
        let mut lent = self.pool.lend_for(DOING).await?;
        let mut written = write(&mut lent, batch, owner, upto, batch.is_new).await;
        if batch.is_new && written.as_ref().is_err_and(is_duplicate) {
            written = write(&mut lent, batch, owner, upto, false).await;
        }
        let rows = match written {
            Ok(Some(rows)) => Ok(rows),
            Ok(None) => Err(fenced(owner)),
            Err(error) => Err(failed(DOING, error)),
        };
        let rows = lent.back(rows)?;
        Ok(Inserted { rows, duplicates: (batch.len() as u64).saturating_sub(rows) })
    }
}

/// The transaction; nothing if the token is an old one.
async fn write(
    lent: &mut Lent,
    batch: &Batch<'_>,
    owner: Ownership,
    upto: EntryId,
    is_new: bool,
) -> Result<Option<u64>, sqlx::Error> {
    let patience = lent.patience();
    let mut transaction = within(patience, lent.begin()).await?;
    // First, so that it is the lock on which two owners meet.
    if !within(patience, move_checkpoint(&mut transaction, owner, upto)).await? {
        return Ok(None);
    }
    let rows = insert(&mut transaction, patience, batch, is_new).await?;
    within(patience, transaction.commit()).await?;
    Ok(Some(rows))
}

async fn insert(
    transaction: &mut PgConnection,
    patience: Duration,
    batch: &Batch<'_>,
    is_new: bool,
) -> Result<u64, sqlx::Error> {
    let mut rows = 0;
    if !batch.messages.at.ms.is_empty() {
        rows += within(patience, insert_messages(transaction, &batch.messages, is_new)).await?;
    }
    if !batch.events.at.ms.is_empty() {
        rows += within(patience, insert_events(transaction, &batch.events, is_new)).await?;
    }
    if !batch.joins.ms.is_empty() {
        within(patience, insert_joins(transaction, &batch.joins)).await?;
    }
    if !batch.leaves.ms.is_empty() {
        within(patience, end_stays(transaction, &batch.leaves)).await?;
    }
    if !batch.rooms.is_empty() {
        within(patience, update_rooms(transaction, batch)).await?;
    }
    Ok(rows)
}

/// Moves the checkpoint, or says that the token is an old one.
async fn move_checkpoint(transaction: &mut PgConnection, owner: Ownership, upto: EntryId) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        r#"UPDATE checkpoints SET updated_at = now(),
             ms = CASE WHEN (ms, n) < ($4, $5) THEN $4 ELSE ms END,
             n = CASE WHEN (ms, n) < ($4, $5) THEN $5 ELSE n END
           WHERE "group" = $1 AND partition = $2 AND token = $3"#,
    )
    .bind(ARCHIVE)
    .bind(i32::from(owner.partition.0))
    .bind(signed(owner.token))
    .bind(signed(upto.ms))
    .bind(signed(upto.n))
    .execute(transaction)
    .await?;
    Ok(moved.rows_affected() == 1)
}

/// A statement, and the same for rows that are perhaps there.
macro_rules! insert {
    ($is_new:expr, $statement:literal) => {
        if $is_new { $statement } else { concat!($statement, " ON CONFLICT DO NOTHING") }
    };
}

async fn insert_messages(
    transaction: &mut PgConnection,
    rows: &Messages<'_>,
    is_new: bool,
) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(insert!(
        is_new,
        "INSERT INTO messages (room, ms, n, seq, slot, user_id, device, cid, kind, body, sender_type, file_url, \
           file_name) \
         SELECT unnest($1::text[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bigint[]), \
           unnest($5::int[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[]), unnest($9::text[]), \
           unnest($10::text[])::jsonb, unnest($11::text[]), unnest($12::text[]), unnest($13::text[])"
    ))
    .bind(&rows.at.room)
    .bind(&rows.at.ms)
    .bind(&rows.at.n)
    .bind(&rows.at.seq)
    .bind(&rows.at.slot)
    .bind(&rows.user)
    .bind(&rows.device)
    .bind(&rows.cid)
    .bind(&rows.kind)
    .bind(&rows.body)
    .bind(&rows.sender_type)
    .bind(&rows.file_url)
    .bind(&rows.file_name)
    .execute(transaction)
    .await?;
    Ok(done.rows_affected())
}

async fn insert_events(transaction: &mut PgConnection, rows: &Events<'_>, is_new: bool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(insert!(
        is_new,
        "INSERT INTO room_events (room, ms, n, seq, slot, event, user_id, data) \
         SELECT unnest($1::text[]), unnest($2::bigint[]), unnest($3::bigint[]), unnest($4::bigint[]), \
           unnest($5::int[]), unnest($6::text[]), unnest($7::text[]), unnest($8::text[])::jsonb"
    ))
    .bind(&rows.at.room)
    .bind(&rows.at.ms)
    .bind(&rows.at.n)
    .bind(&rows.at.seq)
    .bind(&rows.at.slot)
    .bind(&rows.event)
    .bind(&rows.user)
    .bind(&rows.data)
    .execute(transaction)
    .await?;
    Ok(done.rows_affected())
}

async fn insert_joins(transaction: &mut PgConnection, joins: &Stays<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO room_sessions (room, user_id, ms, n) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) ON CONFLICT DO NOTHING",
    )
    .bind(&joins.room)
    .bind(&joins.user)
    .bind(&joins.ms)
    .bind(&joins.n)
    .execute(transaction)
    .await?;
    Ok(())
}

/// A stay ends with the first leaving after its beginning, in whatever order they are told.
async fn end_stays(transaction: &mut PgConnection, leaves: &Stays<'_>) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE room_sessions AS s SET left_ms = first.left_ms, left_n = first.left_n \
         FROM (SELECT DISTINCT ON (s.room, s.user_id, s.ms, s.n) s.room, s.user_id, s.ms, s.n, \
                 l.ms AS left_ms, l.n AS left_n \
               FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS l (room, user_id, ms, n) \
               JOIN room_sessions AS s ON s.room = l.room AND s.user_id = l.user_id AND (s.ms, s.n) < (l.ms, l.n) \
                 AND (s.left_ms IS NULL OR (l.ms, l.n) < (s.left_ms, s.left_n)) \
               ORDER BY s.room, s.user_id, s.ms, s.n, l.ms, l.n) AS first \
         WHERE s.room = first.room AND s.user_id = first.user_id AND s.ms = first.ms AND s.n = first.n",
    )
    .bind(&leaves.room)
    .bind(&leaves.user)
    .bind(&leaves.ms)
    .bind(&leaves.n)
    .execute(transaction)
    .await?;
    Ok(())
}

async fn update_rooms(transaction: &mut PgConnection, batch: &Batch<'_>) -> Result<(), sqlx::Error> {
    let rows = || batch.rooms.values();
    let names: Vec<&str> = batch.rooms.keys().copied().collect();
    let slots: Vec<i32> = names.iter().map(|room| i32::from(Partitions::slot(room))).collect();
    sqlx::query(
        "INSERT INTO rooms (room, slot, seq, head_ms, head_n, created_at, closed_at) \
         SELECT room, slot, seq, ms, n, to_timestamp(first_ms::double precision / 1000), \
           to_timestamp(closed_ms::double precision / 1000) \
         FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
         AS given (room, slot, seq, ms, n, first_ms, closed_ms) \
         ON CONFLICT (room) DO UPDATE SET seq = greatest(rooms.seq, excluded.seq), updated_at = now(), \
           head_n = CASE WHEN (rooms.head_ms, rooms.head_n) < (excluded.head_ms, excluded.head_n) \
             THEN excluded.head_n ELSE rooms.head_n END, \
           head_ms = greatest(rooms.head_ms, excluded.head_ms), \
           created_at = least(rooms.created_at, excluded.created_at), \
           closed_at = least(rooms.closed_at, excluded.closed_at)",
    )
    .bind(&names)
    .bind(slots)
    .bind(rows().map(|row| signed(row.head.seq)).collect::<Vec<_>>())
    .bind(rows().map(|row| signed(row.head.id.ms)).collect::<Vec<_>>())
    .bind(rows().map(|row| signed(row.head.id.n)).collect::<Vec<_>>())
    .bind(rows().map(|row| signed(row.first_ms)).collect::<Vec<_>>())
    .bind(rows().map(|row| row.closed_ms.map(signed)).collect::<Vec<_>>())
    .execute(transaction)
    .await?;
    Ok(())
}
