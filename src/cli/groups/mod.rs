//! `millstream groups`: who reads the log, how far they are, and who is behind.

mod remove;

use std::collections::BTreeMap;

use serde::Serialize;

use super::ending::Outcome;
use super::output::{or_dash, printable};
use super::settings::Installation;
use super::{output, settings, when};
use crate::group::{self, GroupPosition};
use crate::model::{EntryId, PartitionId};
use crate::replay::GROUP as REPLAY;
use crate::service::SettingsArgs;

/// Unread entries of a partition that are counted one by one; beyond, Redis' estimate has to do.
const COUNT_MAX: u64 = 10_000;

/// Shows the consumer groups: owner, position, lag in entries and seconds, pending, oldest.
///
/// LAG counts what a group has not settled, PENDING what of it was handed out already; BEHIND is the age
/// of the oldest of them. AGAIN counts copies that wait for `millstream replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream groups\n  \
    millstream groups --partitions\n  \
    millstream groups remove callback:gone\n  \
    millstream groups --json | jq 'map(select(.group == \"archive\").lag_entries) | add'")]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct GroupsArgs {
    #[command(subcommand)]
    deed: Option<GroupsDeed>,
    /// A line for each partition, instead of one for each group.
    #[arg(long)]
    partitions: bool,
    /// As JSON: an object for each group and partition.
    #[arg(long)]
    json: bool,
}

/// What can be done with a group.
#[derive(Debug, clap::Subcommand)]
enum GroupsDeed {
    Remove(remove::RemoveArgs),
}

/// Where a group is in a partition, as scripts read it.
#[derive(Debug, Clone, Serialize)]
struct Standing {
    group: String,
    partition: PartitionId,
    /// The worker that has it now.
    owner: Option<String>,
    /// Everything up to here is settled.
    position: EntryId,
    last_delivered: EntryId,
    lag_entries: u64,
    /// Whether they were counted; else there are at least so many.
    lag_exact: bool,
    /// Age of the oldest entry that isn't settled.
    lag_seconds: f64,
    pending: u64,
    oldest_pending: Option<EntryId>,
    /// The oldest entry that isn't settled.
    oldest: Option<EntryId>,
    /// Copies that wait to be delivered again.
    again: u64,
}

/// A group over all partitions, as people read it.
#[derive(Debug, Default, PartialEq)]
struct Summary {
    owned: usize,
    partitions: usize,
    owners: Vec<String>,
    lag: u64,
    exact: bool,
    behind: f64,
    pending: u64,
    oldest: Option<EntryId>,
    again: u64,
}

/// Shows them.
pub(super) async fn run(args: GroupsArgs, flags: &SettingsArgs) -> Outcome {
    let here = settings::open(flags).await?;
    if let Some(GroupsDeed::Remove(args)) = args.deed {
        return remove::run(&here, &args).await;
    }
    let standings = standings(&here).await?;
    if args.json {
        return output::json(&standings);
    }
    if standings.is_empty() {
        return output::line("no groups yet: they are made when a worker starts");
    }
    output::show(&if args.partitions { by_partition(&standings) } else { by_group(&standings) })
}

async fn standings(here: &Installation) -> Outcome<Vec<Standing>> {
    let mut positions = group::positions(&here.redis, here.partitions, COUNT_MAX).await?;
    for p in here.partitions.all() {
        positions.extend(group::position(&here.redis, REPLAY, p, &here.redis.keys().replay(p), COUNT_MAX).await?);
    }
    let now = when::now_ms();
    let mut standings = Vec::with_capacity(positions.len());
    for position in positions {
        let redeliver = here.redis.keys().redeliver(position.partition, &position.group);
        let again = here.redis.length(&redeliver).await?;
        standings.push(standing(position, again, now));
    }
    standings.sort_by(|a, b| (&a.group, a.partition).cmp(&(&b.group, b.partition)));
    Ok(standings)
}

fn standing(position: GroupPosition, again: u64, now_ms: u64) -> Standing {
    let settled = match position.oldest_pending {
        Some(oldest) => oldest.previous(),
        None => position.last_delivered,
    };
    let age_ms = position.oldest_unsettled.map_or(0, |oldest| now_ms.saturating_sub(oldest.ms));
    Standing {
        position: position.checkpoint.unwrap_or(EntryId::ZERO).max(settled),
        group: position.group,
        partition: position.partition,
        owner: position.owner,
        last_delivered: position.last_delivered,
        lag_entries: position.lag.entries,
        lag_exact: position.lag.exact,
        lag_seconds: age_ms as f64 / 1_000.0,
        pending: position.pending,
        oldest_pending: position.oldest_pending,
        oldest: position.oldest_unsettled,
        again,
    }
}

fn by_partition(standings: &[Standing]) -> comfy_table::Table {
    let columns = ["group", "partition", "owner", "position", "lag", "behind", "pending", "oldest", "again"];
    let mut table = output::table(&columns);
    for standing in standings {
        table.add_row([
            printable(&standing.group),
            standing.partition.to_string(),
            printable(&or_dash(standing.owner.as_deref())),
            standing.position.to_string(),
            lag(standing.lag_entries, standing.lag_exact),
            age(standing.lag_seconds),
            standing.pending.to_string(),
            or_dash(standing.oldest),
            standing.again.to_string(),
        ]);
    }
    table
}

fn by_group(standings: &[Standing]) -> comfy_table::Table {
    let mut table = output::table(&["group", "owned", "owners", "lag", "behind", "pending", "oldest", "again"]);
    for (group, summary) in summaries(standings) {
        table.add_row([
            printable(group),
            format!("{}/{}", summary.owned, summary.partitions),
            match summary.owners.len() {
                0 => "-".to_owned(),
                1..=2 => printable(&summary.owners.join(", ")),
                many => format!("{many} workers"),
            },
            lag(summary.lag, summary.exact),
            age(summary.behind),
            summary.pending.to_string(),
            or_dash(summary.oldest.map(output::time_of)),
            summary.again.to_string(),
        ]);
    }
    table
}

fn summaries(standings: &[Standing]) -> BTreeMap<&str, Summary> {
    let mut groups: BTreeMap<&str, Summary> = BTreeMap::new();
    for standing in standings {
        let summary = groups.entry(&standing.group).or_insert_with(|| Summary { exact: true, ..Summary::default() });
        summary.partitions += 1;
        if let Some(owner) = &standing.owner {
            summary.owned += 1;
            if !summary.owners.contains(owner) {
                summary.owners.push(owner.clone());
            }
        }
        summary.lag += standing.lag_entries;
        summary.exact &= standing.lag_exact;
        summary.behind = summary.behind.max(standing.lag_seconds);
        summary.pending += standing.pending;
        summary.oldest = [summary.oldest, standing.oldest].into_iter().flatten().min();
        summary.again += standing.again;
    }
    groups
}

fn lag(entries: u64, exact: bool) -> String {
    if exact { entries.to_string() } else { format!("≥{entries}") }
}

fn age(seconds: f64) -> String {
    match seconds {
        zero if zero <= 0.0 => "-".to_owned(),
        few if few < 60.0 => format!("{few:.1}s"),
        more => humantime::format_duration(std::time::Duration::from_secs(more as u64)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::Lag;

    fn position(p: u16, owner: Option<&str>, lag: u64) -> GroupPosition {
        GroupPosition {
            group: "archive".into(),
            partition: PartitionId(p),
            owner: owner.map(str::to_owned),
            checkpoint: Some(EntryId::new(5, 0)),
            last_delivered: EntryId::new(9, 0),
            lag: Lag { entries: lag, exact: p == 0 },
            pending: 1,
            oldest_pending: Some(EntryId::new(7, 0)),
            oldest_unsettled: Some(EntryId::new(7, 0)),
        }
    }

    #[test]
    fn a_position_is_before_the_oldest_that_is_pending() {
        let standing = standing(position(0, None, 1), 3, 10_007);
        assert_eq!(standing.position, EntryId::new(6, u64::MAX));
        assert_eq!((standing.lag_seconds, standing.again), (10.0, 3));
    }

    #[test]
    fn scripts_find_the_promised_fields() {
        let json = serde_json::to_value(standing(position(3, Some("w1"), 4), 0, 10_007)).unwrap();
        assert_eq!((&json["group"], &json["partition"], &json["owner"]), (&"archive".into(), &3.into(), &"w1".into()));
        assert_eq!((&json["lag_entries"], &json["lag_exact"], &json["pending"]), (&4.into(), &false.into(), &1.into()));
        assert_eq!((&json["oldest"], &json["last_delivered"]), (&"7-0".into(), &"9-0".into()));
    }

    #[test]
    fn a_group_is_as_far_behind_as_its_worst_partition() {
        let standings = [
            standing(position(0, Some("w1"), 4), 0, 10_007),
            standing(position(1, Some("w2"), 5), 2, 20_007),
            standing(position(2, None, 0), 0, 7),
        ];
        let summary = &summaries(&standings)["archive"];
        assert_eq!((summary.owned, summary.partitions, summary.lag, summary.exact), (2, 3, 9, false));
        assert_eq!((summary.behind, summary.pending, summary.again), (20.0, 3, 2));
        assert_eq!(summary.owners, ["w1", "w2"]);
    }

    #[test]
    fn ages_are_short() {
        assert_eq!((age(0.0), age(1.25), age(90.0)), ("-".into(), "1.2s".into(), "1m 30s".into()));
    }
}
