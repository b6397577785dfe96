//! `millstream dead list`.

use serde_json::{Value, json};

use super::{Filter, Installation, Letter};
use crate::cli::ending::Outcome;
use crate::cli::output::{or_dash, printable};
use crate::cli::{item, output};

/// Longest error in a table: the whole of it is in the JSON.
const ERROR_CHARS_MAX: usize = 80;

/// What to list.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ListArgs {
    /// The group, such as archive or callback:orders [default: all].
    #[arg(value_name = "GROUP")]
    name: Option<String>,
    /// The same.
    #[arg(long, conflicts_with = "name")]
    group: Option<String>,
    #[command(flatten)]
    filter: Filter,
    /// Of each group at most.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
    /// As JSON, with the entries themselves.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(here: &Installation, args: ListArgs) -> Outcome {
    let group = args.group.or(args.name);
    let mut found = Vec::new();
    for group in here.groups_meant(group.as_deref()).await? {
        args.filter.select(here, &group, args.limit, |letter| found.push(letter)).await?;
    }
    if args.json {
        return output::json(&found.iter().map(as_json).collect::<Vec<_>>());
    }
    if found.is_empty() {
        return output::line("no dead letters");
    }
    let columns = ["group", "id", "given up", "original", "room", "attempts", "reason", "error"];
    let mut table = output::table(&columns);
    for Letter { group, id, letter } in &found {
        table.add_row([
            printable(group),
            id.to_string(),
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

/// A letter with its entry as a frame of the client protocol; `null` if that can't be read.
pub(super) fn as_json(of: &Letter) -> Value {
    let letter = &of.letter;
    let raw = letter.raw();
    let entry = raw.clone().into_entry().and_then(|entry| item::json_line(&entry)).ok();
    json!({
        "group": of.group,
        "id": of.id,
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
