//! Makes Redis and Postgres agree on a partition before anything of it is read.
//!
//! Three things can have happened since the last owner: nothing; Redis was emptied, or came back
//! without its last writes; Postgres came back without its last rows.
//!
//! **Invariant:** nothing archived is ever renumbered: a room goes on after the highest number that
//! Redis or the archive knows, and the log after the highest id.
//!
//! **Invariant:** what the archive doesn't hold and the log does is read again.

use tracing::{info, warn};

use super::writer::Shared;
use crate::error::Result;
use crate::fault::{self, Fault};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::store::{ARCHIVE, Checkpoint, Ownership, Range};
use crate::stream::GroupInfo;
use crate::telemetry::names;

/// Rooms that are restored in one step: a step of the script holds Redis up for about a millisecond.
const ROOMS_PER_STEP: u32 = 1_000;

/// Takes the partition over in Postgres and brings Redis in line with it. Every step may be repeated,
/// and a crash between them leaves a partition that the next owner finds as it was. Gives what is archived, too.
///
/// # Errors
/// As Redis and Postgres answer: call it again.
pub(super) async fn open(shared: &Shared, partitions: Partitions, p: PartitionId) -> Result<(Ownership, EntryId)> {
    let (owner, archived) = shared.store.take_over(p).await?;
    compare(shared, p, archived).await?;
    initialise(shared, partitions, p).await?;
    read_again(shared, p, archived).await?;
    Ok((owner, archived))
}

/// Fills a partition that has no epoch, or whose log was deleted.
async fn initialise(shared: &Shared, partitions: Partitions, p: PartitionId) -> Result<()> {
    if shared.redis.epoch(p).await?.is_some() {
        return Ok(());
    }
    let rooms = restore_rooms(shared, partitions, p).await?;
    let mut checkpoints = shared.store.checkpoints(p).await?;
    let archived = position(&checkpoints, ARCHIVE);
    add_settled(&mut checkpoints, p, shared.redis.checkpoints(p).await?);
    // New ids come after everything that anybody has settled: a group would pass over lower ones.
    let newest = shared.store.newest_id(partitions, p).await?;
    let last = checkpoints.iter().map(|checkpoint| checkpoint.id).fold(newest, EntryId::max);
    let groups: Vec<_> = checkpoints.into_iter().map(|found| (found.group, found.id)).collect();
    let remains = remains(shared, partitions, p).await?;
    let epoch = uuid::Uuid::new_v4().to_string();
    if shared.redis.initialise(p, &epoch, last, archived, remains, &groups).await? {
        metrics::counter!(names::PARTITIONS_INITIALISED).increment(1);
        info!(partition = %p, rooms, groups = groups.len(), log.after = %last,
            "initialised partition {p}: {rooms} rooms restored, its log goes on after {last}");
    }
    Ok(())
}

/// What groups have settled by the account of a Redis that has lost its log and nothing else: newer than
/// what was copied into Postgres. The archive's own place is where its rows end, whatever Redis says.
fn add_settled(checkpoints: &mut Vec<Checkpoint>, partition: PartitionId, settled: Vec<(String, EntryId)>) {
    for (group, id) in settled.into_iter().filter(|(group, _)| group != ARCHIVE) {
        match checkpoints.iter_mut().find(|known| known.group == group) {
            Some(known) => known.id = known.id.max(id),
            None => checkpoints.push(Checkpoint { group, partition, id }),
        }
    }
}

/// Before which id the archive holds whatever the log holds: the log is then a beginning of what was
/// archived. Its newest entry tells, unless somebody wrote after the loss and before it was noticed: such
/// a log is left as it is.
async fn remains(shared: &Shared, partitions: Partitions, p: PartitionId) -> Result<EntryId> {
    let Some(end) = shared.redis.newest_id(&shared.redis.keys().log(p)).await? else { return Ok(EntryId::ZERO) };
    let range = Range::Partition(partitions, p);
    let archived = shared.store.range(&range, end.previous(), end, 1).await?;
    Ok(if archived.is_empty() { EntryId::ZERO } else { end.next() })
}

fn position(checkpoints: &[Checkpoint], group: &str) -> EntryId {
    checkpoints.iter().find(|checkpoint| checkpoint.group == group).map(|found| found.id).unwrap_or_default()
}

async fn restore_rooms(shared: &Shared, partitions: Partitions, p: PartitionId) -> Result<u64> {
    let (mut restored, mut after) = (0, None);
    loop {
        let rooms = shared.store.rooms_of(partitions, p, after.as_ref(), ROOMS_PER_STEP).await?;
        let Some(last) = rooms.last() else { return Ok(restored) };
        shared.redis.restore_rooms(p, rooms.iter().map(|room| (&room.room, room.head, room.closed))).await?;
        restored += rooms.len() as u64;
        after = Some(last.room.clone());
    }
}

/// A log that stands before what was archived has lost its last writes (a replica was promoted, a
/// backup restored): it is filled as if it were new, so that rooms go on after the archive's numbers,
/// groups get from the archive what the log lost, and edges hear of it by the new epoch. `true`: it has, and
/// nothing is written into it until it was filled.
///
/// # Errors
/// As Redis answers. Repeating is harmless.
pub(super) async fn compare(shared: &Shared, p: PartitionId, archived: EntryId) -> Result<bool> {
    let Some(epoch) = shared.redis.epoch(p).await? else { return Ok(false) };
    // Nothing is archived: nothing of it can be missing.
    let lost = archived > EntryId::ZERO && shared.redis.log_lost(p, &epoch, archived).await?;
    if lost {
        warn!(partition = %p, %archived, "the log of partition {p} ends before what is archived: filling it again");
    }
    Ok(lost)
}

/// Has the group read again whatever it had settled and Postgres doesn't hold.
async fn read_again(shared: &Shared, p: PartitionId, archived: EntryId) -> Result<()> {
    let log = shared.redis.keys().log(p);
    let Some(group) = shared.redis.group(&log, ARCHIVE).await? else {
        return shared.redis.create_log_group(p, ARCHIVE, archived).await.map(|_| ());
    };
    let settled = settled(shared, p, &group).await?;
    if archived < settled && !fault::active(Fault::XackBeforeCommit) {
        shared.redis.rewind_group(p, ARCHIVE, archived).await?;
        warn!(partition = %p, %archived, %settled,
            "the archive of partition {p} ends at {archived}, before what was settled: reading the log again from there");
    }
    Ok(())
}

/// Up to where the group has settled everything, by Redis' own account: before its oldest pending entry
/// that is the entry before, for ids between the two say nothing.
async fn settled(shared: &Shared, p: PartitionId, group: &GroupInfo) -> Result<EntryId> {
    let log = shared.redis.keys().log(p);
    let oldest = match group.pending {
        0 => None,
        _ => shared.redis.pending(&log, ARCHIVE).await?.oldest,
    };
    let Some(oldest) = oldest else { return Ok(group.last_delivered) };
    let before = shared.redis.range_back(&log, oldest.previous(), EntryId::ZERO, 1).await?;
    // Nothing before it is held: there is nothing to read again.
    Ok(before.first().map_or(EntryId::ZERO, |entry| entry.id))
}
