//! Has everything that was accepted until now written to Postgres.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::model::{EntryId, PartitionId, Partitions, Room};
use crate::store::{ARCHIVE, Store};
use crate::stream::Redis;

/// How often it is looked whether the archive has come there.
const POLL: Duration = Duration::from_millis(100);

/// Waits until the archive holds everything that the log held at the call, of all partitions or of
/// the room's, and asks its workers to write at once. Says how many partitions had something.
///
/// # Errors
/// [`Kind::PostgresUnavailable`] if they don't come there within `patience`; otherwise as Redis and
/// Postgres answer.
pub async fn flush(
    redis: &Redis,
    store: &Store,
    partitions: Partitions,
    room: Option<&Room>,
    patience: Duration,
) -> Result<usize> {
    let mut wanted = Vec::new();
    let only = room.map(|room| partitions.of(room));
    for p in partitions.all().filter(|p| only.is_none_or(|only| only == *p)) {
        if let Some(last) = redis.newest_id(&redis.keys().log(p)).await? {
            wanted.push((p, last));
        }
    }
    let asked = wanted.len();
    match tokio::time::timeout(patience, wait(redis, store, &mut wanted)).await {
        Ok(done) => done.map(|()| asked),
        Err(_) => {
            let late: Vec<String> = wanted.iter().map(|(p, _)| p.to_string()).collect();
            let late = late.join(", ");
            Err(Error::new(Kind::PostgresUnavailable, format!("flush within {patience:?}: partitions {late} are late")))
        }
    }
}

async fn wait(redis: &Redis, store: &Store, wanted: &mut Vec<(PartitionId, EntryId)>) -> Result<()> {
    loop {
        let mut left = Vec::with_capacity(wanted.len());
        for (p, last) in wanted.iter().copied() {
            if !is_archived(redis, store, p, last).await? {
                redis.ask_flush(p, last).await?;
                left.push((p, last));
            }
        }
        *wanted = left;
        if wanted.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Whether the archive is done with everything up to `last`: written, or given up and parked.
async fn is_archived(redis: &Redis, store: &Store, p: PartitionId, last: EntryId) -> Result<bool> {
    if store.archived(p).await? >= last {
        return Ok(true);
    }
    Ok(redis.checkpoint(p, ARCHIVE).await?.is_some_and(|settled| settled >= last))
}
