//! How far the log may be trimmed, what that would cost each group, and doing it.
//!
//! **Invariant:** unless it is forced, a trim removes nothing that a group has not settled or the
//! archive does not hold: the plan says so, and Redis checks it again in the step that trims.
//!
//! # Design
//! Entries older than `retention.min_age` go as soon as nobody needs them. `retention.max_entries` yields
//! to that and to every other limit: a log that is longer is told ([`Retained::is_over_max`]), not cut.
//! When Redis nears `maxmemory`, the age could be taken shorter here: [`Cut::Retention`] is the place.

use std::time::Duration;

use metrics::counter;
use serde::Serialize;
use tracing::{info, warn};

use crate::config::RetentionSettings;
use crate::error::{Error, Kind, Result};
use crate::fault::{self, Fault};
use crate::model::{EntryId, PartitionId};
use crate::stream::{ARCHIVE_GROUP, Redis, Trimmed, Trimmer};
use crate::telemetry::names;

/// Entries that a plan counts exactly; beyond it says "at least".
const COUNT_MAX: u64 = 1_000_000;

/// What is wanted to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// What is older than this.
    Retention(Duration),
    /// What comes before this id.
    Before(EntryId),
    /// All but so many of the newest.
    Keep(u64),
}

/// What a trim of one partition would do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrimPlan {
    /// The partition.
    pub partition: PartitionId,
    /// The first id that should stay, as wanted.
    pub wanted: EntryId,
    /// The first id that must stay: up to before it nobody needs anything.
    pub floor: EntryId,
    /// Entries that the log holds.
    pub length: u64,
    /// Entries that go without force.
    pub removes: u64,
    /// Entries that go by force.
    pub removes_forced: u64,
    /// What each group would lose by force: only those that would.
    pub losses: Vec<TrimLoss>,
}

/// What a group would lose by a forced trim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TrimLoss {
    /// The group.
    pub group: String,
    /// Entries that were never delivered to it.
    pub unread: u64,
    /// Entries that were delivered to it and not settled.
    pub pending: u64,
}

impl TrimPlan {
    /// The first id that stays without force.
    pub fn first(&self) -> EntryId {
        self.wanted.min(self.floor)
    }

    /// Whether what is wanted would cost a group something, or pass what the archive holds.
    pub fn is_lossy(&self) -> bool {
        self.wanted > self.floor
    }
}

/// What retention did to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Entries that went.
    pub removed: u64,
    /// Entries that stayed.
    pub length: u64,
    /// Whether these are more than `retention.max_entries`: something needs them, or they are too young.
    pub is_over_max: bool,
}

/// Trims a partition as retention wants it: for the owner of its archive lease, given by `token`.
/// `archived` is the archive's checkpoint, as Postgres has it. Counts nothing beforehand: cheap.
///
/// # Errors
/// [`Kind::Fenced`] if the lease is another's; otherwise as Redis answers.
pub async fn retain(
    redis: &Redis,
    p: PartitionId,
    retention: &RetentionSettings,
    archived: EntryId,
    token: u64,
) -> Result<Retained> {
    let key = redis.keys().log(p);
    let (floor, _) = floor(redis, p, Some(archived)).await?;
    let first = floor.min(wanted(redis, &key, Cut::Retention(*retention.min_age)).await?);
    let removed = if fault::active(Fault::TrimWithoutFloor) {
        let first = wanted(redis, &key, Cut::Retention(*retention.min_age)).await?;
        trim(redis, p, first, Trimmer::ForcingOperator).await?
    } else {
        trim(redis, p, first, Trimmer::Owner(token)).await?
    };
    let length = redis.length(&key).await?;
    Ok(Retained { removed, length, is_over_max: length > retention.max_entries })
}

/// What `cut` would do to a partition. Without `archived` (who plans has no Postgres), the checkpoint that
/// the archive wrote to Redis counts. Reads what it counts: for operators, not for every ten seconds.
///
/// # Errors
/// As Redis answers.
pub async fn plan(redis: &Redis, p: PartitionId, cut: Cut, archived: Option<EntryId>) -> Result<TrimPlan> {
    let key = redis.keys().log(p);
    let wanted = wanted(redis, &key, cut).await?;
    let (floor, needs) = floor(redis, p, archived).await?;
    let mut losses = Vec::new();
    for need in needs {
        let unread = count_before(redis, &key, need.after.next(), wanted).await?;
        let pending = pending_before(redis, &key, &need.group, wanted, need.oldest_pending).await?;
        if unread > 0 || pending > 0 {
            losses.push(TrimLoss { group: need.group, unread, pending });
        }
    }
    let removes = count_before(redis, &key, EntryId::ZERO, wanted.min(floor)).await?;
    let removes_forced = if wanted > floor { count_before(redis, &key, EntryId::ZERO, wanted).await? } else { removes };
    let length = redis.length(&key).await?;
    Ok(TrimPlan { partition: p, wanted, floor, length, removes, removes_forced, losses })
}

/// What a group still needs of a log.
struct Need {
    group: String,
    /// What comes after this was never delivered to it.
    after: EntryId,
    oldest_pending: Option<EntryId>,
}

/// The first id that must stay, and what each group needs.
async fn floor(redis: &Redis, p: PartitionId, archived: Option<EntryId>) -> Result<(EntryId, Vec<Need>)> {
    let key = redis.keys().log(p);
    let mut needs = Vec::new();
    for group in redis.groups(&key).await? {
        let oldest_pending = redis.pending(&key, &group.name).await?.oldest;
        needs.push(Need { group: group.name, after: group.last_delivered, oldest_pending });
    }
    let checkpoints = redis.checkpoints(p).await?;
    let noted = checkpoints.iter().find(|(group, _)| group == ARCHIVE_GROUP).map(|(_, checkpoint)| *checkpoint);
    // A group that was lost is made again at its checkpoint.
    for (group, after) in checkpoints {
        if !needs.iter().any(|need| need.group == group) {
            needs.push(Need { group, after, oldest_pending: None });
        }
    }
    // An archive that never said where it is has nothing.
    let archived = archived.or(noted).unwrap_or(EntryId::ZERO);
    let floor = needs.iter().map(|need| need.oldest_pending.unwrap_or(EntryId::MAX).min(need.after)).min();
    Ok((floor.map_or(archived, |floor| floor.min(archived)), needs))
}

/// Trims as planned, without force: nothing goes that anybody needs. Says how many entries went.
///
/// # Errors
/// [`Kind::Fenced`] if `trimmer` doesn't own the partition's archive lease; otherwise as Redis answers.
pub async fn execute(redis: &Redis, plan: &TrimPlan, trimmer: Trimmer) -> Result<u64> {
    let trimmer = if trimmer == Trimmer::ForcingOperator { Trimmer::Operator } else { trimmer };
    if plan.removes == 0 {
        return Ok(0);
    }
    trim(redis, plan.partition, plan.first(), trimmer).await
}

/// Trims as wanted, whatever that destroys; counts and logs it per group.
///
/// # Errors
/// As Redis answers.
pub async fn execute_forced(redis: &Redis, plan: &TrimPlan) -> Result<u64> {
    let removed = trim(redis, plan.partition, plan.wanted, Trimmer::ForcingOperator).await?;
    for loss in &plan.losses {
        counter!(names::LOG_DESTROYED, "group" => loss.group.clone()).increment(loss.unread + loss.pending);
        warn!(group = loss.group, partition = %plan.partition, unread = loss.unread, pending = loss.pending,
            "a forced trim of partition {} destroyed entries that {} had not settled", plan.partition, loss.group);
    }
    Ok(removed)
}

async fn trim(redis: &Redis, p: PartitionId, first: EntryId, trimmer: Trimmer) -> Result<u64> {
    match redis.trim_log(p, first, trimmer).await? {
        Trimmed::Removed(removed) => {
            counter!(names::LOG_TRIMMED, "partition" => p.to_string()).increment(removed);
            if removed > 0 {
                info!(partition = %p, first = %first, removed, "trimmed {removed} entries of partition {p}");
            }
            Ok(removed)
        }
        // A group came back or began between the plan and the deed: the next plan knows it.
        Trimmed::Needed => Ok(0),
        Trimmed::NotOurs => Err(Error::new(Kind::Fenced, format!("trim partition {p}"))),
    }
}

async fn wanted(redis: &Redis, key: &str, cut: Cut) -> Result<EntryId> {
    Ok(match cut {
        Cut::Retention(age) => {
            let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            // By the clock that gave the ids: ours may be ahead, and would cut what is young.
            EntryId::new(redis.time_ms(key).await?.saturating_sub(age), 0)
        }
        Cut::Before(id) => id,
        Cut::Keep(0) => redis.newest_id(key).await?.map_or(EntryId::ZERO, EntryId::next),
        Cut::Keep(count) => nth_newest(redis, key, count).await?,
    })
}

/// The id of the `count`-th newest entry; the oldest if there are fewer.
async fn nth_newest(redis: &Redis, key: &str, count: u64) -> Result<EntryId> {
    const STEP: u64 = 1_000;
    let (mut left, mut to, mut found) = (count, EntryId::MAX, EntryId::ZERO);
    while left > 0 {
        let page = redis.range_back(key, to, EntryId::ZERO, left.min(STEP)).await?;
        let Some(last) = page.last() else { break };
        found = last.id;
        left -= page.len() as u64;
        to = found.previous();
    }
    Ok(found)
}

async fn count_before(redis: &Redis, key: &str, from: EntryId, before: EntryId) -> Result<u64> {
    if before <= from {
        return Ok(0);
    }
    Ok(redis.count_range(key, from, before.previous(), COUNT_MAX).await?.entries)
}

async fn pending_before(
    redis: &Redis,
    key: &str,
    group: &str,
    before: EntryId,
    oldest: Option<EntryId>,
) -> Result<u64> {
    const STEP: u64 = 1_000;
    let (mut count, mut from) = (
        0,
        match oldest {
            Some(oldest) if oldest < before => oldest,
            _ => return Ok(0),
        },
    );
    loop {
        let page = redis.pending_entries(key, group, Duration::ZERO, (from, before.previous()), STEP).await?;
        count += page.len() as u64;
        match page.last() {
            Some(last) if page.len() as u64 == STEP => from = last.id.next(),
            _ => return Ok(count),
        }
    }
}
