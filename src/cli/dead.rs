//! `millstream dead`: entries that groups gave up.

use clap::Subcommand;
use serde_json::{Value, json};

use super::ending::Outcome;
use super::output::{or_dash, printable};
use super::settings::Installation;
use super::{item, output, settings};
use crate::error::Error;
use crate::model::EntryId;
use crate::service::SettingsArgs;
use crate::stream::DeadLetter;

/// Longest error in a table: the whole of it is in the JSON.
const ERROR_CHARS_MAX: usize = 80;

/// Shows the entries that groups gave up.
#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// Lists the dead letters of a group, or of all groups; oldest first.
    #[command(after_help = "Examples:\n  \
        millstream dead list\n  \
        millstream dead list callback:orders --limit 500\n  \
        millstream dead list archive --json | jq -r '.[].error'")]
    List(ListArgs),
}

/// What to list.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// The group, such as archive or callback:orders [default: all].
    group: Option<String>,
    /// Of each group at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
    /// As JSON, with the entries themselves.
    #[arg(long)]
    json: bool,
}

/// Lists.
pub(super) async fn run(command: DeadCommand, flags: &SettingsArgs) -> Outcome {
    let DeadCommand::List(args) = command;
    let here = settings::open(flags).await?;
    let known = here.groups().await?;
    let groups = match args.group {
        None => known,
        Some(group) => {
            // Dead letters outlive their group: whoever has some is known too.
            let has_letters = here.redis.length(&here.redis.keys().dead(&group)).await? > 0;
            if !has_letters && !known.contains(&group) {
                return Err(unknown_group(&group, &known).into());
            }
            vec![group]
        }
    };
    let mut found = Vec::new();
    for group in groups {
        let letters = here.redis.dead_letters(&group, EntryId::ZERO, EntryId::MAX, args.limit).await?;
        found.extend(letters.into_iter().map(|(id, letter)| (group.clone(), id, letter)));
    }
    if args.json {
        return output::json(&found.iter().map(letter_json).collect::<Vec<_>>());
    }
    if found.is_empty() {
        return output::line("no dead letters");
    }
    let mut table = output::table(&["group", "given up", "original", "room", "attempts", "reason", "error"]);
    for (group, id, letter) in &found {
        table.add_row([
            group.clone(),
            output::time_of(*id),
            letter.original.to_string(),
            printable(&or_dash(letter.raw().text("r"))),
            letter.attempts.to_string(),
            printable(&letter.reason),
            printable(&letter.error.chars().take(ERROR_CHARS_MAX).collect::<String>()),
        ]);
    }
    output::show(&table)
}

fn letter_json((group, id, letter): &(String, EntryId, DeadLetter)) -> Value {
    let raw = letter.raw();
    let entry = raw.clone().into_entry().and_then(|entry| item::json_line(&entry)).ok();
    json!({
        "group": group,
        "id": id,
        "partition": letter.partition,
        "original": letter.original,
        "room": raw.text("r"),
        "seq": raw.text("s").and_then(|seq| seq.parse::<u64>().ok()),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "first": letter.first_ms,
        "last": letter.last_ms,
        "entry": entry.and_then(|line| serde_json::from_slice::<Value>(&line).ok()),
    })
}

impl Installation {
    /// The groups on the log, by name: those that are there, and those that have only a checkpoint.
    pub(super) async fn groups(&self) -> Outcome<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        for p in self.partitions.all() {
            let groups = self.redis.groups(&self.redis.keys().log(p)).await?;
            names.extend(groups.into_iter().map(|group| group.name));
            names.extend(self.redis.checkpoints(p).await?.into_iter().map(|(group, _)| group));
        }
        Ok(names.into_iter().collect())
    }
}

/// The error for a group that isn't one of `known`.
pub(super) fn unknown_group(group: &str, known: &[String]) -> Error {
    let known = if known.is_empty() {
        "there are none yet: they are made when a worker starts".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    Error::invalid(format!("find a group {group:?}: {known}"))
}
