//! Where the groups are: owner, position, lag, pending. For gauges and for `millstream groups`.

use serde::Serialize;

use crate::error::{Kind, Result};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::stream::{Counted, GroupInfo, Redis};

/// Where a group is in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GroupPosition {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: PartitionId,
    /// The worker that owns it now.
    pub owner: Option<String>,
    /// Up to where it has settled everything, as its owner wrote it last.
    pub checkpoint: Option<EntryId>,
    /// The last entry that was delivered to it.
    pub last_delivered: EntryId,
    /// Entries that it has not settled: the pending ones and those after [`Self::last_delivered`].
    pub lag: Lag,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The oldest of them.
    pub oldest_pending: Option<EntryId>,
    /// The oldest entry that it has not settled, delivered or not; its `ms` gives the lag in time.
    pub oldest_unsettled: Option<EntryId>,
}

/// A number of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Lag {
    /// How many.
    pub entries: u64,
    /// Whether that was counted; otherwise it is Redis' estimate, or what there is at least.
    pub exact: bool,
}

/// Where `group` is in the stream `key` of partition `p`; nothing if it doesn't exist there. Up to
/// `count_max` unread entries are counted exactly.
///
/// # Errors
/// As Redis answers.
pub async fn position(
    redis: &Redis,
    group: &str,
    p: PartitionId,
    key: &str,
    count_max: u64,
) -> Result<Option<GroupPosition>> {
    match redis.group(key, group).await? {
        Some(info) => of_group(redis, info, p, key, count_max).await,
        None => Ok(None),
    }
}

/// Where all groups on the log are, by partition, and by name in it.
///
/// # Errors
/// As Redis answers.
pub async fn positions(redis: &Redis, partitions: Partitions, count_max: u64) -> Result<Vec<GroupPosition>> {
    let mut all = Vec::new();
    for p in partitions.all() {
        let key = redis.keys().log(p);
        let mut groups = redis.groups(&key).await?;
        groups.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        for info in groups {
            all.extend(of_group(redis, info, p, &key, count_max).await?);
        }
    }
    Ok(all)
}

async fn of_group(
    redis: &Redis,
    info: GroupInfo,
    p: PartitionId,
    key: &str,
    count_max: u64,
) -> Result<Option<GroupPosition>> {
    let pending = match redis.pending(key, &info.name).await {
        Err(error) if error.kind() == Kind::NoGroup => return Ok(None),
        pending => pending?,
    };
    let unread_from = info.last_delivered.next();
    let unread = redis.count_range(key, unread_from, EntryId::MAX, count_max).await?;
    let oldest_unread = match unread.entries {
        0 => None,
        _ => redis.range(key, unread_from, EntryId::MAX, 1).await?.first().map(|entry| entry.id),
    };
    let holder = redis.lease_holder(&info.name, p).await?;
    Ok(Some(GroupPosition {
        owner: holder.map(|holder| holder.worker),
        checkpoint: redis.checkpoint(p, &info.name).await?,
        last_delivered: info.last_delivered,
        lag: lag(&info, pending.count, unread),
        pending: pending.count,
        oldest_pending: pending.oldest,
        oldest_unsettled: pending.oldest.or(oldest_unread),
        group: info.name,
        partition: p,
    }))
}

fn lag(info: &GroupInfo, pending: u64, unread: Counted) -> Lag {
    // Redis' lag is wrong after a trim on 7.0, so it may only add to what was counted.
    let estimate = if unread.exact { 0 } else { info.lag.unwrap_or(0) };
    Lag { entries: pending + unread.entries.max(estimate), exact: unread.exact }
}
