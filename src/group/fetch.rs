//! What an owner asks Redis for beside the blocking reads: what earlier owners left pending, retries,
//! entries that nobody has, copies that are to be delivered again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};

use super::Group;
use super::worker::Worker;
use crate::error::{Kind, Result};
use crate::fault::{self, Fault};
use crate::model::{EntryId, PartitionId};
use crate::stream::{GroupStream, RawEntry};

/// Age at which a pending entry that its owner doesn't hold counts as stray: the answer that brought
/// it is lost for certain, because no command waits so long.
const STRAY_IDLE: Duration = Duration::from_secs(4);
/// Strays that are looked at in one go.
const STRAYS_MAX: u64 = 1_000;

/// Entries with how often each was delivered.
pub(super) type Delivered = Vec<(RawEntry, u64)>;

/// One page of what was left pending.
#[derive(Debug)]
pub(super) struct Page {
    pub entries: Delivered,
    pub destroyed: Vec<EntryId>,
    /// Where the next page begins.
    pub next: Option<EntryId>,
    /// With the last page: the last entry that was ever delivered.
    pub last_delivered: Option<EntryId>,
}

/// Makes sure that the group exists: a lost one is made again at its checkpoint.
pub(super) async fn ensure_group<G: Group>(
    worker: &Worker,
    group: &G,
    p: PartitionId,
    stream: &GroupStream,
    is_log: bool,
) -> Result<()> {
    if worker.redis.group(&stream.key, &stream.group).await?.is_some() {
        return Ok(());
    }
    let checkpoint = if is_log { worker.redis.checkpoint(p, &stream.group).await? } else { None };
    let at = match checkpoint {
        Some(_) if fault::active(Fault::GroupAtDollar) => {
            worker.redis.newest_id(&stream.key).await?.unwrap_or_default()
        }
        Some(checkpoint) => checkpoint,
        None => group.start(p).await?,
    };
    let made = if is_log {
        worker.redis.create_log_group(p, &stream.group, at).await?
    } else {
        worker.redis.create_group(&stream.key, &stream.group, at).await?
    };
    if !made {
        return Ok(());
    }
    if checkpoint.is_some() {
        worker.meters.recreated.increment(1);
        warn!(group = worker.group, partition = %p, checkpoint = %at, "group was gone: made it again at its checkpoint");
    } else {
        info!(group = worker.group, partition = %p, start = %at, "made the group");
    }
    Ok(())
}

/// Takes one page of what is pending from `from` on, whoever had it.
pub(super) async fn claim_page(worker: Arc<Worker>, stream: GroupStream, from: EntryId, count: usize) -> Result<Page> {
    let claimed = worker.redis.claim_page(&stream, from, count as u64).await?;
    let mut deliveries = HashMap::new();
    if let (Some(first), Some(last)) = (claimed.entries.first(), claimed.entries.last()) {
        let (range, most) = ((first.id, last.id), count as u64 * 2);
        for entry in worker.redis.pending_entries(&stream.key, &stream.group, Duration::ZERO, range, most).await? {
            deliveries.insert(entry.id, entry.deliveries);
        }
    }
    let reached = worker.redis.group(&stream.key, &stream.group).await?.map(|info| info.last_delivered);
    let last_delivered = reached.filter(|_| claimed.next.is_none());
    let with_count = |raw: RawEntry| {
        let count = deliveries.get(&raw.id).copied().unwrap_or(1);
        (raw, count)
    };
    // A group that was moved back reads again what is pending after that, in its place.
    let in_place = |raw: &RawEntry| reached.is_none_or(|reached| raw.id <= reached);
    let entries = claimed.entries.into_iter().filter(in_place).map(with_count).collect();
    Ok(Page { entries, destroyed: claimed.destroyed, next: claimed.next, last_delivered })
}

/// Entries that are to be delivered again, by how often they were then; and those that are gone.
#[derive(Debug, Default)]
pub(super) struct Again {
    pub entries: Delivered,
    pub gone: Vec<EntryId>,
}

/// Reads entries that we hold once more and counts a delivery of each.
pub(super) async fn claim_again(
    worker: Arc<Worker>,
    stream: GroupStream,
    ids: BTreeMap<u64, Vec<EntryId>>,
) -> Result<Again> {
    let mut again = Again::default();
    for (deliveries, ids) in ids {
        let entries = worker.redis.claim(&stream, &ids, deliveries).await?;
        let there: HashSet<EntryId> = entries.iter().map(|entry| entry.id).collect();
        let missing: Vec<EntryId> = ids.into_iter().filter(|id| !there.contains(id)).collect();
        again.entries.extend(entries.into_iter().map(|entry| (entry, deliveries)));
        for id in missing {
            // Not pending: the group was made again behind it. It is still to be settled if it is there.
            match worker.redis.range(&stream.key, id, id, 1).await?.pop() {
                Some(entry) => again.entries.push((entry, deliveries)),
                None => again.gone.push(id),
            }
        }
    }
    again.entries.sort_unstable_by_key(|(entry, _)| entry.id);
    Ok(again)
}

/// Entries that have been pending for a while, with how often they were delivered, if there are more
/// than the owner `holds`. Only the owner can tell which of them nobody has.
pub(super) async fn perhaps_stray(
    worker: Arc<Worker>,
    stream: GroupStream,
    holds: usize,
) -> Result<Vec<(EntryId, u64)>> {
    if worker.redis.pending(&stream.key, &stream.group).await?.count <= holds as u64 {
        return Ok(Vec::new());
    }
    let (mut found, mut from) = (Vec::new(), EntryId::ZERO);
    loop {
        let range = (from, EntryId::MAX);
        let page = worker.redis.pending_entries(&stream.key, &stream.group, STRAY_IDLE, range, STRAYS_MAX).await?;
        found.extend(page.iter().map(|entry| (entry.id, entry.deliveries)));
        match page.last() {
            // What is held is bounded, so this ends.
            Some(last) if page.len() as u64 == STRAYS_MAX && found.len() <= holds + STRAYS_MAX as usize => {
                from = last.id.next();
            }
            _ => return Ok(found),
        }
    }
}

/// What there is to be delivered again on request: first what was left pending (`from`), then more.
pub(super) async fn replayed(
    worker: Arc<Worker>,
    stream: GroupStream,
    from: Option<EntryId>,
    count: usize,
) -> Result<Page> {
    let page = |entries, next| Page { entries, destroyed: Vec::new(), next, last_delivered: None };
    if worker.redis.length(&stream.key).await? == 0 {
        return Ok(page(Vec::new(), from));
    }
    let read = match from {
        Some(from) => claim_page(worker.clone(), stream.clone(), from, count).await,
        None => {
            let entries = worker.redis.read_group(&stream, None, count as u64).await;
            entries.map(|entries| page(entries.into_iter().map(|raw| (raw, 1)).collect(), None))
        }
    };
    match read {
        Err(error) if error.kind() == Kind::NoGroup => {
            // The stream goes with its last entry, and the group with it.
            worker.redis.create_group_if_stream(&stream.key, &stream.group, EntryId::ZERO).await?;
            Ok(page(Vec::new(), Some(EntryId::ZERO)))
        }
        read => read,
    }
}
