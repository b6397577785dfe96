//! The groups: owned, moving, not holding the log back for nothing, and what they gave up.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Patient;
use super::report::Finding;
use crate::cli::output;
use crate::error::Result;
use crate::group::{self, GroupPosition};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::replay::GROUP as REPLAY;
use crate::stream::{ARCHIVE_GROUP, Redis};

/// Unread entries of a partition that are counted one by one; beyond, "at least" has to do.
const COUNT_MAX: u64 = 1_000;
/// Between two looks at a group that seems stuck: one that works settles something in it.
const MOVES_WITHIN: Duration = Duration::from_secs(1);

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let Ok(redis) = &patient.redis else {
        return vec![Finding::skipped("groups", "can't be seen without Redis")];
    };
    let Some(partitions) = patient.partitions else {
        return vec![Finding::skipped("groups", "can't be seen: redis.partitions can't be used")];
    };
    patient.bounded("groups", look(patient, redis, partitions)).await
}

async fn look(patient: &Patient, redis: &Redis, partitions: Partitions) -> Result<Vec<Finding>> {
    let groups = positions(redis, partitions).await?;
    // The clock that gave the ids, whatever ours says.
    let now_ms = redis.time_ms(&redis.keys().meta()).await?;
    let mut findings = Vec::new();
    for name in expected(patient).into_iter().filter(|name| !groups.contains_key(name)) {
        findings.push(absent(&name));
    }
    for (name, positions) in &groups {
        let check = format!("group {name}");
        if let Some(endpoint) = left(patient, name) {
            findings.push(gone(&check, name, endpoint, positions));
            continue;
        }
        findings.extend(owners(patient, redis, &check, name, positions).await?);
        let late: Vec<&GroupPosition> =
            positions.iter().filter(|one| age(one, now_ms) > patient.patience(name)).collect();
        let moved = if late.is_empty() { true } else { moves(redis, name, &late).await? };
        findings.push(standing(&check, positions, &late, moved, now_ms));
    }
    let mut names: BTreeSet<String> = groups.into_keys().collect();
    names.extend(expected(patient));
    for name in names {
        let letters = redis.length(&redis.keys().dead(&name)).await?;
        findings.extend((letters > 0).then(|| dead(&name, letters)));
    }
    Ok(findings)
}

/// The groups that these settings need.
fn expected(patient: &Patient) -> Vec<String> {
    let endpoints = patient.settings.callback.endpoints.iter().map(|one| format!("callback:{}", one.name));
    [ARCHIVE_GROUP.to_owned(), REPLAY.to_owned()].into_iter().chain(endpoints).collect()
}

async fn positions(redis: &Redis, partitions: Partitions) -> Result<BTreeMap<String, Vec<GroupPosition>>> {
    let mut all = group::positions(redis, partitions, COUNT_MAX).await?;
    for p in partitions.all() {
        all.extend(group::position(redis, REPLAY, p, &stream_of(redis, REPLAY, p), COUNT_MAX).await?);
    }
    let mut groups: BTreeMap<String, Vec<GroupPosition>> = BTreeMap::new();
    for one in all {
        groups.entry(one.group.clone()).or_default().push(one);
    }
    Ok(groups)
}

fn stream_of(redis: &Redis, group: &str, p: PartitionId) -> String {
    if group == REPLAY { redis.keys().replay(p) } else { redis.keys().log(p) }
}

/// The endpoint of a group that isn't in the settings.
fn left<'a>(patient: &Patient, group: &'a str) -> Option<&'a str> {
    let endpoint = group.strip_prefix("callback:")?;
    let is_there = patient.settings.callback.endpoints.iter().any(|one| one.name == endpoint);
    (!is_there).then_some(endpoint)
}

impl Patient {
    /// How long an entry of a group may be unsettled before that is worth a word.
    fn patience(&self, group: &str) -> Duration {
        match group {
            // It gathers rows for so long by design.
            ARCHIVE_GROUP => self.stuck_after.max(*self.settings.archive.max_delay * 2),
            _ => self.stuck_after,
        }
    }
}

/// Age of the oldest entry that isn't settled.
fn age(position: &GroupPosition, now_ms: u64) -> Duration {
    let ms = position.oldest_unsettled.map_or(0, |oldest| now_ms.saturating_sub(oldest.ms));
    Duration::from_millis(ms)
}

fn absent(name: &str) -> Finding {
    let check = format!("group {name}");
    let (why, fix) = needs(name);
    Finding::fail(&check, "has never run on this log", why, fix)
}

/// What is missing without workers of a group, and how to have some.
fn needs(name: &str) -> (&'static str, &'static str) {
    match name {
        ARCHIVE_GROUP => (
            "nothing is written to Postgres, the log is neither trimmed nor prepared",
            "start an archive worker (millstream-archive)",
        ),
        REPLAY => ("nobody can join a room or read its history", "start a replay worker (millstream-replay)"),
        _ => (
            "its items wait in the log, which isn't trimmed meanwhile",
            "start a callback worker (millstream-callback) with this endpoint in its settings",
        ),
    }
}

fn gone(check: &str, name: &str, endpoint: &str, positions: &[GroupPosition]) -> Finding {
    let lag: u64 = positions.iter().map(|one| one.lag.entries).sum();
    Finding::warn(
        check,
        format!("{endpoint} is not in these settings, and its group has {lag} entries to come"),
        "the log waits for it and isn't trimmed past what it has not settled",
        format!(
            "if it is gone for good: millstream groups remove {name}\nif not: give doctor the settings of the callback workers"
        ),
    )
}

async fn owners(
    patient: &Patient,
    redis: &Redis,
    check: &str,
    name: &str,
    positions: &[GroupPosition],
) -> Result<Vec<Finding>> {
    let alive = redis.workers_alive(name, *patient.settings.group.lease_ttl).await?;
    let mut findings = Vec::new();
    let without: Vec<String> =
        positions.iter().filter(|one| one.owner.is_none()).map(|one| one.partition.to_string()).collect();
    if !without.is_empty() {
        let (why, fix) = needs(name);
        let what = format!("{} of {} partitions have no owner: {}", without.len(), positions.len(), without.join(", "));
        findings.push(Finding::fail(check, what, why, fix));
    }
    let ghosts: BTreeSet<&str> = positions
        .iter()
        .filter_map(|one| one.owner.as_deref())
        .filter(|owner| !alive.iter().any(|one| one == owner))
        .collect();
    if !ghosts.is_empty() {
        let ttl = patient.settings.group.lease_ttl;
        findings.push(Finding::warn(
            check,
            format!(
                "partitions are held by {}, not heard of for {ttl}",
                ghosts.into_iter().collect::<Vec<_>>().join(", ")
            ),
            "a worker that hangs or has died: what it holds is late until its leases lapse",
            format!("look again in {ttl}; if it is still so, restart that worker"),
        ));
    }
    Ok(findings)
}

/// Whether any of these partitions settles something while we look.
async fn moves(redis: &Redis, name: &str, late: &[&GroupPosition]) -> Result<bool> {
    tokio::time::sleep(MOVES_WITHIN).await;
    for before in late {
        let stream = stream_of(redis, name, before.partition);
        let now = group::position(redis, name, before.partition, &stream, 1).await?;
        if now.is_none_or(|now| now.oldest_unsettled != before.oldest_unsettled) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn standing(check: &str, positions: &[GroupPosition], late: &[&GroupPosition], moves: bool, now_ms: u64) -> Finding {
    let lag: u64 = positions.iter().map(|one| one.lag.entries).sum();
    let exact = positions.iter().all(|one| one.lag.exact);
    let behind = positions.iter().map(|one| age(one, now_ms)).max().unwrap_or_default();
    let told = format!("{}{lag} entries behind, {}", if exact { "" } else { "at least " }, seconds(behind));
    let Some(worst) = late.iter().max_by_key(|one| age(one, now_ms)) else { return Finding::ok(check, told) };
    let oldest = worst.oldest_unsettled.map_or_else(String::new, |id: EntryId| format!(" (entry {id})"));
    if moves {
        return Finding::warn(
            check,
            format!("{told}, and moving"),
            "what it does is late; the log isn't trimmed past it",
            "start more workers of it, or look what slows them down (`millstream groups --partitions`)",
        );
    }
    let partitions: Vec<String> = late.iter().map(|one| one.partition.to_string()).collect();
    Finding::fail(
        check,
        format!("{told}, and not moving: partitions {}{oldest}", partitions.join(", ")),
        "what it does stands still; the log isn't trimmed past it and grows until Redis' memory is full",
        "look at the log of its owner (`millstream groups --partitions` names it): what it waits for is there; \
         restart it if it says nothing",
    )
}

fn dead(name: &str, letters: u64) -> Finding {
    Finding::warn(
        &format!("group {name}"),
        format!("has {}", output::count(letters, "dead letter", "dead letters")),
        "these entries were given up: nobody tries them again by itself",
        format!(
            "millstream dead list {name}\nmend the cause, then: millstream dead retry --group {name} --execute\n\
             or, if nobody needs them: millstream dead purge --group {name} --execute"
        ),
    )
}

fn seconds(span: Duration) -> String {
    match span.as_secs() {
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        more => humantime::format_duration(Duration::from_secs(more)).to_string(),
    }
}
