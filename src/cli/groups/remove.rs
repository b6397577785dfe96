//! `millstream groups remove`: a group that nobody needs any more lets the log go.
//!
//! **Invariant:** a group that a worker has is not removed, nor one that belongs to an endpoint of the
//! settings: its workers would make it again, and begin anew.

use serde_json::json;

use super::COUNT_MAX;
use crate::callback;
use crate::cli::dead::unknown_group;
use crate::cli::ending::Outcome;
use crate::cli::output;
use crate::cli::output::printable;
use crate::cli::settings::Installation;
use crate::error::Error;
use crate::group;
use crate::model::PartitionId;
use crate::stream::ARCHIVE_GROUP;

/// Removes a group for good, such as that of an endpoint that left the settings.
///
/// Shows what it would lose, and does it with --execute. The log stops waiting for it. Its dead letters
/// stay until `millstream dead purge`. An archive worker forgets it in Postgres within seconds.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream groups remove callback:gone\n  \
    millstream groups remove callback:gone --execute")]
pub(super) struct RemoveArgs {
    /// The group, such as callback:orders.
    name: String,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// Plan and result as JSON.
    #[arg(long)]
    json: bool,
}

/// What it would lose in a partition.
struct Loss {
    partition: PartitionId,
    unsettled: u64,
    exact: bool,
    again: u64,
    is_owed: bool,
}

pub(super) async fn run(here: &Installation, args: &RemoveArgs) -> Outcome {
    refuse(here, &args.name).await?;
    let losses = losses(here, &args.name).await?;
    let letters = here.redis.length(&here.redis.keys().dead(&args.name)).await?;
    if !args.json {
        show(&args.name, &losses, letters)?;
    }
    if args.execute {
        if let Some(endpoint) = args.name.strip_prefix("callback:") {
            callback::forget(&here.redis, endpoint).await?;
        }
        for p in here.partitions.all() {
            if !here.redis.forget_group(p, &args.name).await? {
                return Err(owned(&args.name, &format!("partition {p} has an owner")).into());
            }
        }
    }
    if args.json {
        let loss = |loss: &Loss| {
            json!({
                "partition": loss.partition,
                "unsettled": loss.unsettled,
                "exact": loss.exact,
                "again": loss.again,
                "owed": loss.is_owed,
            })
        };
        return output::json(&json!({
            "group": args.name,
            "executed": args.execute,
            "unsettled": losses.iter().map(|loss| loss.unsettled + loss.again).sum::<u64>(),
            "dead_letters": letters,
            "partitions": losses.iter().map(loss).collect::<Vec<_>>(),
        }));
    }
    output::line(match args.execute {
        true => format!("removed {}", printable(&args.name)),
        false => "nothing was done: add --execute to remove it".to_owned(),
    })
}

async fn refuse(here: &Installation, name: &str) -> Outcome {
    if [ARCHIVE_GROUP, crate::replay::GROUP].contains(&name) {
        return Err(Error::invalid(format!("remove the group {name}: Millstream doesn't work without it")).into());
    }
    let known = here.groups().await?;
    if !known.iter().any(|group| group == name) {
        return Err(unknown_group(name, &known).into());
    }
    let endpoints = &here.settings.callback.endpoints;
    if endpoints.iter().any(|one| name.strip_prefix("callback:") == Some(one.name.as_str())) {
        let what = format!("remove the group {name}: its endpoint is in the settings; take it out of there first");
        return Err(Error::invalid(what).into());
    }
    let workers = here.redis.workers_alive(name, *here.settings.group.lease_ttl).await?;
    match workers.first() {
        Some(worker) => Err(owned(name, &format!("{worker} works for it")).into()),
        None => Ok(()),
    }
}

fn owned(name: &str, why: &str) -> Error {
    Error::invalid(format!("remove the group {name}: {why}; restart the workers whose settings still have it"))
}

async fn losses(here: &Installation, name: &str) -> Outcome<Vec<Loss>> {
    let mut losses = Vec::new();
    for partition in here.partitions.all() {
        let keys = here.redis.keys();
        let position = group::position(&here.redis, name, partition, &keys.log(partition), COUNT_MAX).await?;
        let again = here.redis.length(&keys.redeliver(partition, name)).await?;
        let owed = here.redis.positions(partition).await?.map(|positions| positions.owed).unwrap_or_default();
        let is_owed = owed.iter().any(|(group, _)| group == name);
        let lag = position.map(|position| position.lag);
        losses.push(Loss {
            partition,
            unsettled: lag.map_or(0, |lag| lag.entries),
            exact: lag.is_none_or(|lag| lag.exact),
            again,
            is_owed,
        });
    }
    Ok(losses)
}

fn show(name: &str, losses: &[Loss], letters: u64) -> Outcome {
    let name = printable(name);
    let total: u64 = losses.iter().map(|loss| loss.unsettled + loss.again).sum();
    let entries = output::count(total, "entry", "entries");
    output::line(format!("{name} would never get {entries} that it has not settled:"))?;
    let mut table = output::table(&["partition", "unsettled", "again", "owed from the archive"]);
    for loss in losses.iter().filter(|loss| loss.unsettled + loss.again > 0 || loss.is_owed) {
        let about = if loss.exact { "" } else { "≥" };
        table.add_row([
            loss.partition.to_string(),
            format!("{about}{}", loss.unsettled),
            loss.again.to_string(),
            if loss.is_owed { "yes" } else { "-" }.to_owned(),
        ]);
    }
    output::show(&table)?;
    match letters {
        0 => Ok(()),
        some => output::line(format!(
            "{} of it stay: `millstream dead purge --group {name}` removes them",
            output::count(some, "dead letter", "dead letters")
        )),
    }
}
