//! Notices when a group stands further on than its owner has read, and takes it back.
//!
//! Redis' `last-delivered-id` can be moved by anybody (`XGROUP SETID … $`), by a command of ours that
//! a frozen Redis executes when nobody waits for its answer any more, or by an owner that was taken
//! for dead. Redis then never delivers what was passed over.
//!
//! **Invariant:** what an owner accepts follows in the log, without a gap, what it accepted before.
//!
//! # Design
//! The reader looks whether the log holds something between what was read before and what came now,
//! which costs a range of no entries for each read, and now and then whether a group from which nothing
//! comes still stands where it was read to. A partition that sees a gap has its group moved back and
//! reads again: what comes twice is known, because it is held. Between two owners the settle script
//! remembers how far the last one was given everything (`mill:{p}:delivered`): what comes after that is
//! pending, or was passed over.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use super::worker::Worker;
use crate::error::Result;
use crate::fault::{self, Fault};
use crate::model::{EntryId, PartitionId};
use crate::stream::{GroupStream, RawEntry, Redis};

/// One stream of a read.
pub(super) struct Part<'a> {
    pub key: &'a str,
    /// Up to where it was read before.
    pub read_to: EntryId,
    /// What came now.
    pub entries: &'a [RawEntry],
}

/// Which of these streams a read has left something out of. Those without entries are only looked at
/// if `quiet_too`; no other read of ours may be under way.
pub(super) async fn skipped(redis: &Redis, group: &str, parts: &[Part<'_>], quiet_too: bool) -> Result<Vec<bool>> {
    let looks = parts.iter().map(|part| async move {
        match part.entries.first() {
            // Read again after the group was made again.
            Some(first) if first.id <= part.read_to.next() => Ok(false),
            Some(first) => is_any_between(redis, part.key, part.read_to, first.id).await,
            None if quiet_too => {
                let info = redis.group(part.key, group).await?;
                Ok(info.is_some_and(|info| info.last_delivered > part.read_to))
            }
            None => Ok(false),
        }
    });
    join_all(looks).await.into_iter().collect()
}

async fn is_any_between(redis: &Redis, key: &str, after: EntryId, before: EntryId) -> Result<bool> {
    Ok(!redis.range(key, after.next(), before.previous(), 1).await?.is_empty())
}

/// What an owner does first with the group of a log: if it stands further on than the last owner was
/// given everything, and that is not pending, then it was passed over, and the group is moved back.
pub(super) async fn mend(worker: &Worker, p: PartitionId, token: u64, stream: &GroupStream) -> Result<()> {
    if fault::active(Fault::GroupAtDollar) {
        return Ok(());
    }
    let redis = &worker.redis;
    let Some(info) = redis.group(&stream.key, &stream.group).await? else { return Ok(()) };
    let delivered = redis.delivered(p, &stream.group, info.last_delivered).await?;
    if delivered >= info.last_delivered {
        return Ok(());
    }
    let unread_from = delivered.next();
    // Read by the last owner and not settled: bounded as what one may hold unsettled.
    let most = worker.settings.unsettled_entries as u64 + worker.settings.read_entries as u64;
    let range = (unread_from, info.last_delivered);
    let pending = redis.pending_entries(&stream.key, &stream.group, Duration::ZERO, range, most).await?.len() as u64;
    let there = redis.count_range(&stream.key, unread_from, info.last_delivered, pending + 1).await?;
    if there.entries > pending {
        redis.move_back(p, token, stream, delivered).await?;
        worker.meters.moved_back.increment(1);
        warn!(group = worker.group, partition = %p, %delivered, last_delivered = %info.last_delivered,
            "the group stood after entries that nobody was given: moved it back");
    }
    Ok(())
}
