//! The archive as history needs it: bounded in time, and left alone for a moment after it failed.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tracing::warn;

use super::page::Bounds;
use crate::error::{Error, Kind, Result};
use crate::model::{Cursor, Entry, EntryId, EntryKind, PartitionId, Room};
use crate::store::{Range, Slice, Store};

/// Longest wait for one answer. A page by an index takes milliseconds, and an edge waits for the
/// whole batch.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How long the archive isn't asked after it failed: else every batch would wait for it.
const PAUSE: Duration = Duration::from_secs(1);

/// Questions at the same time, over all partitions: as many as a process has connections by default.
/// The others wait here, where waiting is not taken for an archive that doesn't answer.
const QUESTIONS_MAX: usize = 8;

/// The archive, if there is one.
pub(super) struct Archive {
    store: Option<Store>,
    turns: Semaphore,
    paused_until: Mutex<Option<Instant>>,
}

impl Archive {
    pub(super) fn new(store: Option<Store>) -> Self {
        Self { store, turns: Semaphore::new(QUESTIONS_MAX), paused_until: Mutex::new(None) }
    }

    /// Whether there is none.
    pub(super) fn is_none(&self) -> bool {
        self.store.is_none()
    }

    /// Up to where it is complete in a partition.
    pub(super) async fn checkpoint(&self, p: PartitionId) -> Result<EntryId> {
        self.within(self.store()?.archived(p)).await
    }

    /// Entries of a room with `after < id ≤ upto`, oldest first.
    pub(super) async fn page(&self, room: &Room, after: EntryId, upto: EntryId, bounds: Bounds) -> Result<Slice> {
        let limit = u32::try_from(bounds.entries).unwrap_or(u32::MAX - 1);
        self.within(self.store()?.page_after(room, after, upto, limit, bounds.bytes)).await
    }

    /// Where the message with this number is.
    pub(super) async fn message(&self, room: &Room, seq: u64) -> Result<Option<Cursor>> {
        let found = self.within(self.store()?.message_by_seq(room, seq)).await?;
        Ok(found.map(|entry| entry.cursor()))
    }

    /// The oldest message of a room.
    pub(super) async fn oldest_message(&self, room: &Room) -> Result<Option<Cursor>> {
        self.within(self.store()?.first_message_after(room, EntryId::ZERO, EntryId::MAX)).await
    }

    /// Where the oldest entry of a room is.
    pub(super) async fn oldest_entry(&self, room: &Room) -> Result<Option<EntryId>> {
        self.within(self.store()?.oldest(room)).await
    }

    /// The first message with a higher number, up to `upto`.
    pub(super) async fn message_after(&self, room: &Room, seq: u64, upto: EntryId) -> Result<Option<Cursor>> {
        let slice = self.within(self.store()?.page_after_seq(room, seq, upto, 1)).await?;
        Ok(slice.entries.iter().find(|entry| entry.kind == EntryKind::Message).map(Entry::cursor))
    }

    /// Entries of a whole range with `after < id ≤ upto`; fewer than `limit` mean that it ended.
    /// For tools: they wait as long as a statement may take, and hear of every failure.
    pub(super) async fn range(&self, range: &Range, after: EntryId, upto: EntryId, limit: u32) -> Result<Vec<Entry>> {
        self.store()?.range(range, after, upto, limit).await
    }

    fn store(&self) -> Result<&Store> {
        let store = self.store.as_ref().ok_or_else(|| unavailable("there is none"))?;
        if self.paused().is_some_and(|until| Instant::now() < until) {
            return Err(unavailable("it failed a moment ago"));
        }
        Ok(store)
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T>>) -> Result<T> {
        let _turn = self.turns.acquire().await;
        // It may have failed while we waited for our turn.
        self.store()?;
        let answer = tokio::time::timeout(ANSWER_WITHIN, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(unavailable("no answer in time")));
        if let Err(error) = &answer {
            warn!(%error, "the archive did not answer; what the log alone can tell is answered");
            *self.paused() = Some(Instant::now() + PAUSE);
        }
        answer
    }

    fn paused(&self) -> MutexGuard<'_, Option<Instant>> {
        // Nothing panics while holding it.
        self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unavailable(why: &str) -> Error {
    Error::new(Kind::PostgresUnavailable, format!("read the archive: {why}"))
}
