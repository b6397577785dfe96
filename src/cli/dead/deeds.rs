//! `millstream dead retry` and `millstream dead purge`: first what would happen, then doing it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::filter::Chosen;
use super::{Filter, Installation};
use crate::cli::ending::Outcome;
use crate::cli::output;
use crate::cli::output::{or_dash, printable};
use crate::error::Error;

/// Letters that a plan names one by one; the rest are counted.
const NAMED_MAX: usize = 20;
/// Letters that are removed by one command.
const PURGED_AT_ONCE: usize = 500;

/// Which ones, and whether to do it.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true)
    .args(["group", "room", "reason", "from", "to", "id", "all"]))]
pub(in crate::cli) struct DeedArgs {
    /// Only of this group, such as archive or callback:orders [default: of all groups].
    #[arg(long)]
    group: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// All of them.
    #[arg(long, conflicts_with_all = ["group", "room", "reason", "from", "to", "id"])]
    all: bool,
    /// So many of each group at most, the oldest first [default: all that are meant].
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// Plan and result as JSON.
    #[arg(long)]
    json: bool,
}

impl DeedArgs {
    /// What is meant, in the order of the log within a partition.
    async fn chosen(&self, here: &Installation) -> Outcome<Vec<Chosen>> {
        debug_assert!(
            self.all || self.group.is_some() || !self.filter.is_empty(),
            "the group of arguments is required"
        );
        let limit = self.limit.unwrap_or(u64::MAX);
        let mut chosen: Vec<Chosen> = Vec::new();
        for group in here.groups_meant(self.group.as_deref()).await? {
            self.filter.select(here, &group, limit, |letter| chosen.push(letter.into())).await?;
        }
        chosen
            .sort_by(|a, b| (&a.group, a.partition, a.original, a.id).cmp(&(&b.group, b.partition, b.original, b.id)));
        Ok(chosen)
    }
}

/// Gives entries back to their groups.
pub(super) async fn retry(here: &Installation, args: &DeedArgs) -> Outcome {
    let (chosen, left): (Vec<_>, Vec<_>) =
        args.chosen(here).await?.into_iter().partition(|one| one.group != crate::replay::GROUP);
    refuse_impossible(here, &chosen).await?;
    if !args.json {
        show_plan(&chosen, "given back to")?;
        tell_left(&left)?;
    }
    if !args.execute {
        return without_deed(args, &chosen, "given_back", "give them back");
    }
    let mut given = 0;
    for one in &chosen {
        // Read again: it may have been given back or removed since the plan.
        let found = here.redis.dead_letters(&one.group, one.id, one.id, 1).await?;
        if let Some((id, letter)) = found.first()
            && here.redis.retry_dead(&one.group, *id, letter).await?
        {
            given += 1;
        }
    }
    if args.json {
        return output::json(&as_json(&chosen, "given_back", Some(given)));
    }
    let entries = output::count(given, "entry", "entries");
    output::line(format!("gave {entries} back: the workers of their groups deliver them beside what is live"))
}

/// Removes letters.
pub(super) async fn purge(here: &Installation, args: &DeedArgs) -> Outcome {
    let chosen = args.chosen(here).await?;
    if !args.json {
        show_plan(&chosen, "removed for good, of")?;
    }
    if !args.execute {
        return without_deed(args, &chosen, "removed", "remove them");
    }
    let mut removed = 0;
    for of_group in chosen.chunk_by(|a, b| a.group == b.group) {
        for part in of_group.chunks(PURGED_AT_ONCE) {
            let ids: Vec<_> = part.iter().map(|one| one.id).collect();
            removed += here.redis.purge_dead(&part[0].group, &ids).await?;
        }
    }
    if args.json {
        return output::json(&as_json(&chosen, "removed", Some(removed)));
    }
    output::line(format!("removed {}", output::count(removed, "dead letter", "dead letters")))
}

/// A copy for a group or a partition that isn't there would wait for ever, and nobody would look for it.
async fn refuse_impossible(here: &Installation, chosen: &[Chosen]) -> Outcome {
    let known = here.groups().await?;
    if let Some(one) = chosen.iter().find(|one| one.partition.0 >= here.partitions.count()) {
        let what = format!("give the dead letter {} back: there is no partition {}", one.id, one.partition);
        return Err(Error::invalid(what).into());
    }
    match chosen.iter().find(|one| !known.contains(&one.group)) {
        Some(one) => {
            let what = format!(
                "give entries back to {}: it is not a group of the log (any more); start its workers first",
                one.group
            );
            Err(Error::invalid(what).into())
        }
        None => Ok(()),
    }
}

fn without_deed(args: &DeedArgs, chosen: &[Chosen], deed: &str, how: &str) -> Outcome {
    if args.json {
        return output::json(&as_json(chosen, deed, None));
    }
    match chosen.is_empty() {
        true => Ok(()),
        false => output::line(format!("nothing was done: add --execute to {how}")),
    }
}

fn show_plan(chosen: &[Chosen], what: &str) -> Outcome {
    if chosen.is_empty() {
        return output::line("no such dead letters");
    }
    for ((group, reason), count) in counts(chosen) {
        let letters = output::count(count, "dead letter", "dead letters");
        output::line(format!("{letters} would be {what} {}: {}", printable(group), printable(reason)))?;
    }
    let mut table = output::table(&["group", "id", "partition", "original", "room", "reason"]);
    for one in chosen.iter().take(NAMED_MAX) {
        table.add_row([
            printable(&one.group),
            one.id.to_string(),
            one.partition.to_string(),
            one.original.to_string(),
            printable(&or_dash(one.room.as_deref())),
            printable(&one.reason),
        ]);
    }
    output::show(&table)?;
    match chosen.len().saturating_sub(NAMED_MAX) {
        0 => Ok(()),
        more => output::line(format!(" … and {more} more")),
    }
}

/// What the replay workers gave up were requests of edges, which ask anew or tell their client.
fn tell_left(left: &[Chosen]) -> Outcome {
    match left.len() {
        0 => Ok(()),
        some => output::line(format!(
            "{} of replay can only be purged: what an edge asked for then, it has asked anew since",
            output::count(some as u64, "dead letter", "dead letters")
        )),
    }
}

fn counts(chosen: &[Chosen]) -> BTreeMap<(&str, &str), u64> {
    let mut counts = BTreeMap::new();
    for one in chosen {
        *counts.entry((one.group.as_str(), one.reason.as_str())).or_default() += 1;
    }
    counts
}

fn as_json(chosen: &[Chosen], deed: &str, done: Option<u64>) -> Value {
    let letter = |one: &Chosen| {
        json!({
            "group": one.group,
            "id": one.id,
            "partition": one.partition,
            "original": one.original,
            "room": one.room,
            "reason": one.reason,
        })
    };
    json!({
        "executed": done.is_some(),
        "letters": chosen.iter().map(letter).collect::<Vec<_>>(),
        deed: done,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntryId, PartitionId};

    #[test]
    fn a_plan_counts_by_group_and_reason() {
        let one = |group: &str, reason: &str| Chosen {
            group: group.into(),
            id: EntryId::new(1, 0),
            partition: PartitionId(0),
            original: EntryId::new(1, 0),
            room: None,
            reason: reason.into(),
        };
        let chosen = [one("archive", "data"), one("callback:a", "too_old"), one("archive", "data")];
        let counts: Vec<_> = counts(&chosen).into_iter().collect();
        assert_eq!(counts, [(("archive", "data"), 2), (("callback:a", "too_old"), 1)]);
    }
}
