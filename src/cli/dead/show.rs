//! `millstream dead show`: everything of a letter, what was sent too.

use super::{Filter, Installation, Letter, list};
use crate::cli::ending::Outcome;
use crate::cli::output::{self, printable};
use crate::error::Error;
use crate::model::{EntryId, Item};

/// Bytes of a field that can't be read as an entry which are shown.
const RAW_BYTES_MAX: usize = 4_096;

/// Which one.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ShowArgs {
    /// Its own id, or that of its entry in the log.
    id: EntryId,
    /// Only of this group [default: all].
    #[arg(long)]
    group: Option<String>,
    /// As JSON: an array, because several groups may have given one entry up.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(here: &Installation, args: &ShowArgs) -> Outcome {
    let filter = Filter { id: vec![args.id], ..Filter::default() };
    let mut found = Vec::new();
    for group in here.groups_meant(args.group.as_deref()).await? {
        filter.select(here, &group, u64::MAX, |letter| found.push(letter)).await?;
    }
    if found.is_empty() {
        return Err(Error::invalid(format!("find a dead letter {}: `millstream dead list` shows them", args.id)).into());
    }
    if args.json {
        return output::json(&found.iter().map(list::as_json).collect::<Vec<_>>());
    }
    for (nth, letter) in found.iter().enumerate() {
        if nth > 0 {
            output::line("")?;
        }
        for (name, value) in lines(letter) {
            output::line(format!("{name:<10}{value}"))?;
        }
    }
    Ok(())
}

/// Names and values; nothing in them can end a line.
fn lines(of: &Letter) -> Vec<(&'static str, String)> {
    let letter = &of.letter;
    let at = |ms: u64| output::time_of(EntryId::new(ms, 0));
    let mut lines = vec![
        ("group", printable(&of.group)),
        ("id", of.id.to_string()),
        ("partition", letter.partition.to_string()),
        ("original", format!("{} ({})", letter.original, output::time_of(letter.original))),
        ("reason", printable(&letter.reason)),
        ("error", printable(&letter.error)),
        ("attempts", format!("{}, first {}, given up {}", letter.attempts, at(letter.first_ms), at(letter.last_ms))),
    ];
    let entry = letter.raw().into_entry();
    match entry.as_ref().map_err(ToString::to_string).and_then(|entry| {
        entry.open().map(|item| (entry.room.to_string(), entry.seq, item)).map_err(|error| error.to_string())
    }) {
        Ok((room, seq, item)) => {
            lines.push(("room", room));
            lines.push(("seq", seq.to_string()));
            lines.extend(content(&item));
        }
        Err(error) => {
            lines.push(("unreadable", printable(&error)));
            lines.extend(letter.fields.iter().map(|(name, value)| ("field", raw(name, value))));
        }
    }
    lines
}

fn content(item: &Item<'_>) -> Vec<(&'static str, String)> {
    match item {
        Item::Message(message) => {
            let mut lines = vec![
                ("user", printable(message.user)),
                ("device", printable(message.device)),
                ("cid", printable(message.cid)),
                ("kind", printable(message.kind)),
            ];
            if let Some(file) = &message.file {
                lines.push(("file", format!("{} {}", printable(file.name), printable(file.url))));
            }
            lines.push(("body", printable(message.body)));
            lines
        }
        Item::Event(event) => {
            let mut lines = vec![("event", printable(event.event))];
            lines.extend(event.user.map(|user| ("user", printable(user))));
            lines.extend(event.data.map(|data| ("data", printable(data))));
            lines
        }
    }
}

fn raw(name: &[u8], value: &[u8]) -> String {
    let shown = &value[..value.len().min(RAW_BYTES_MAX)];
    let cut = if shown.len() < value.len() { " …" } else { "" };
    format!("{} = \"{}\"{cut} ({} bytes)", name.escape_ascii(), shown.escape_ascii(), value.len())
}
