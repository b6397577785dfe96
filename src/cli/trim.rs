//! `millstream trim`: makes the log shorter, never by what anybody still needs, unless forced.
//!
//! **Invariant:** without `--force-lossy` nothing goes that a group has not settled or the archive
//! does not hold: the plan stops before it, and Redis checks it again in the step that trims.

use serde_json::{Value, json};

use super::ending::Outcome;
use super::output::printable;
use super::settings::Installation;
use super::when::{self, When};
use super::{output, settings};
use crate::error::{Error, Result};
use crate::group::trim::{self, Cut, TrimPlan};
use crate::model::PartitionId;
use crate::service::SettingsArgs;
use crate::store::Store;
use crate::stream::Trimmer;

const EXAMPLES: &str = "Examples:\n  \
    millstream trim --before -7d\n  \
    millstream trim --keep 100000 --execute\n  \
    millstream trim --before 1700000000000-0 --partition 3 --json\n  \
    millstream trim --keep 0 --force-lossy --execute";

/// Removes the oldest entries of the log.
///
/// Shows what would go and what each group would lose, and does it with --execute. What a group has
/// not settled or the archive does not hold stays, unless --force-lossy says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", when::FORMS))]
#[command(group = clap::ArgGroup::new("cut").required(true).args(["before", "keep"]))]
pub(super) struct TrimArgs {
    /// Remove what comes before this.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    before: Option<When>,
    /// Remove all but so many of the newest entries of each partition.
    #[arg(long, value_name = "COUNT")]
    keep: Option<u64>,
    /// Only this partition.
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u16>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// Remove also what groups have not settled and what is not archived. It is lost then.
    #[arg(long)]
    force_lossy: bool,
    /// Plan and result as JSON.
    #[arg(long)]
    json: bool,
}

/// A plan, and how many entries went.
struct Trimmed {
    plan: TrimPlan,
    removed: Option<u64>,
}

/// Plans, and trims if that is wanted.
pub(super) async fn run(args: TrimArgs, flags: &SettingsArgs) -> Outcome {
    let here = settings::open(flags).await?;
    let partitions = partitions(&here, args.partition)?;
    let store = here.store()?;
    let cut = match (args.before, args.keep) {
        (Some(before), _) => Cut::Before(before.first()),
        (None, keep) => Cut::Keep(keep.unwrap_or(u64::MAX)),
    };
    let mut trimmed = Vec::new();
    for p in partitions {
        let plan = trim::plan(&here.redis, p, cut, archived(&store, p).await?).await?;
        trimmed.push(Trimmed { plan, removed: None });
    }
    if !args.json {
        show_plan(&trimmed, args.force_lossy)?;
    }
    if args.execute {
        for one in &mut trimmed {
            one.removed = Some(match args.force_lossy {
                true => trim::execute_forced(&here.redis, &one.plan).await?,
                false => trim::execute(&here.redis, &one.plan, Trimmer::Operator).await?,
            });
        }
    }
    match (args.json, args.execute) {
        (true, _) => output::json(&as_json(&trimmed, args.force_lossy)),
        (false, true) => show_result(&trimmed, args.force_lossy),
        (false, false) => output::line("nothing was done: add --execute to remove them"),
    }
}

fn partitions(here: &Installation, only: Option<u16>) -> Result<Vec<PartitionId>> {
    let found: Vec<_> = here.partitions.all().filter(|p| only.is_none_or(|only| only == p.0)).collect();
    if found.is_empty() {
        let last = here.partitions.count() - 1;
        return Err(Error::invalid(format!("find partition {}: there are 0 to {last}", only.unwrap_or_default())));
    }
    Ok(found)
}

/// The archive's checkpoint; without Postgres, what the archive has noted in Redis has to do, which is
/// never ahead of it.
async fn archived(store: &Store, p: PartitionId) -> Result<Option<crate::model::EntryId>> {
    match store.archived(p).await {
        Ok(archived) => Ok(Some(archived)),
        Err(error) if error.is_retryable() => {
            output::note(format!(
                "partition {p}: what is archived is taken from Redis, because Postgres can't be asked: {error}"
            ));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn show_plan(trimmed: &[Trimmed], force: bool) -> Outcome {
    let mut table = output::table(&["partition", "entries", "go", "first that stays"]);
    for Trimmed { plan, .. } in trimmed {
        let (go, first) = if force { (plan.removes_forced, plan.wanted) } else { (plan.removes, plan.first()) };
        table.add_row([plan.partition.to_string(), plan.length.to_string(), go.to_string(), first.to_string()]);
    }
    output::show(&table)?;
    let kept: u64 = trimmed.iter().map(|one| one.plan.removes_forced - one.plan.removes).sum();
    if kept == 0 {
        return Ok(());
    }
    let entries = output::count(kept, "entry", "entries");
    output::line(match force {
        true => format!("{entries} of these are still needed, and would be lost:"),
        false => format!("{entries} more were wanted to go, and stay because they are still needed:"),
    })?;
    let mut table = output::table(&["partition", "group", "unread", "pending"]);
    for Trimmed { plan, .. } in trimmed {
        for loss in &plan.losses {
            let numbers = [loss.unread.to_string(), loss.pending.to_string()];
            let [unread, pending] = numbers;
            table.add_row([plan.partition.to_string(), printable(&loss.group), unread, pending]);
        }
    }
    output::show(&table)
}

fn show_result(trimmed: &[Trimmed], force: bool) -> Outcome {
    let removed = trimmed.iter().filter_map(|one| one.removed).sum();
    output::line(format!("removed {}", output::count(removed, "entry", "entries")))?;
    if force {
        for Trimmed { plan, .. } in trimmed {
            for loss in &plan.losses {
                let (p, group) = (plan.partition, printable(&loss.group));
                let (unread, pending) = (loss.unread, loss.pending);
                output::line(format!("destroyed for {group} in partition {p}: {unread} unread, {pending} pending"))?;
            }
        }
        return Ok(());
    }
    for Trimmed { plan, removed } in trimmed {
        if plan.removes > 0 && *removed == Some(0) {
            output::line(format!("partition {}: nothing went, because a group needs it by now", plan.partition))?;
        }
    }
    Ok(())
}

fn as_json(trimmed: &[Trimmed], force: bool) -> Value {
    let partition = |one: &Trimmed| {
        let plan = &one.plan;
        json!({
            "partition": plan.partition,
            "entries": plan.length,
            "wanted": plan.wanted,
            "floor": plan.floor,
            "removes": plan.removes,
            "removes_forced": plan.removes_forced,
            "lossy": plan.is_lossy(),
            "losses": plan.losses,
            "removed": one.removed,
        })
    };
    json!({
        "executed": trimmed.iter().any(|one| one.removed.is_some()),
        "forced": force,
        "removed": trimmed.iter().filter_map(|one| one.removed).sum::<u64>(),
        "partitions": trimmed.iter().map(partition).collect::<Vec<_>>(),
    })
}
