//! `millstream tail`: what comes into the log, as it comes.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ending::Outcome;
use super::settings::Installation;
use super::when::When;
use super::{item, output, settings, when};
use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::{Entry, EntryId, Room};
use crate::service::SettingsArgs;
use crate::shutdown::Shutdown;
use crate::stream::{RawEntry, Reader};

/// Entries of one read of one partition at most.
const READ_ENTRIES: u64 = 500;
/// How long a read waits: also how long Ctrl-C may take.
const BLOCK: Duration = Duration::from_millis(500);

/// Shows what comes into the log, of a room or of all, until Ctrl-C.
///
/// Reads the log itself and disturbs nobody: no cursor moves, no group notices. What the log holds no
/// more is in the archive: see `millstream replay --to stdout`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  \
    millstream tail\n  \
    millstream tail --room lobby --from -10m\n  \
    millstream tail --json | jq -r 'select(.type == \"message\") | .body'",
    after_long_help = format!("Examples:\n  \
    millstream tail\n  \
    millstream tail --room lobby --from -10m\n  \
    millstream tail --json | jq -r 'select(.type == \"message\") | .body'\n\n{}", when::FORMS)
)]
pub(super) struct TailArgs {
    /// Only this room.
    #[arg(long)]
    room: Option<String>,
    /// Begin there instead of now.
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true)]
    from: When,
    /// One frame of the client protocol per line.
    #[arg(long)]
    json: bool,
    /// End after so many entries.
    #[arg(long, short = 'n', value_name = "COUNT")]
    count: Option<u64>,
}

/// Writes what comes until it is told to stop.
pub(super) async fn run(args: TailArgs, flags: &SettingsArgs) -> Outcome {
    let room = args.room.as_deref().map(Room::new).transpose()?;
    let here = settings::open(flags).await?;
    let shutdown = Shutdown::on_signals()?;
    let positions = positions(&here, room.as_ref(), args.from).await?;
    let what = room.as_ref().map_or_else(|| "everything".to_owned(), |room| format!("room {room}"));
    output::note(format!("tailing {what}; Ctrl-C ends"));
    let mut tail = Tail { room, json: args.json, left: args.count.unwrap_or(u64::MAX), positions };
    match shutdown.or(Box::pin(tail.run(&here))).await {
        Some(ended) => ended,
        None => Ok(()),
    }
}

/// After which entry each partition's stream is read.
async fn positions(here: &Installation, room: Option<&Room>, from: When) -> Outcome<BTreeMap<String, EntryId>> {
    let only = room.map(|room| here.partitions.of(room));
    let mut positions = BTreeMap::new();
    let begins_now = matches!(from, When::At(ms) if ms.saturating_add(1_000) >= when::now_ms());
    for p in here.partitions.all().filter(|p| only.is_none_or(|only| only == *p)) {
        let after = if begins_now {
            here.redis.last_generated_id(p).await?.unwrap_or_default()
        } else {
            from.first().previous()
        };
        positions.insert(here.redis.keys().log(p), after);
    }
    Ok(positions)
}

struct Tail {
    room: Option<Room>,
    json: bool,
    left: u64,
    positions: BTreeMap<String, EntryId>,
}

impl Tail {
    /// Reads until the wanted number is reached. A Redis that goes away is waited for: nothing is
    /// missed, because the positions stay.
    async fn run(&mut self, here: &Installation) -> Outcome {
        let mut readers = self.readers(here).await?;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        while self.left > 0 {
            let reads = readers.iter_mut().map(|(reader, keys)| {
                let after: Vec<_> = keys.iter().map(|key| (key.clone(), self.positions[key])).collect();
                Box::pin(async move { reader.read(&after, READ_ENTRIES, BLOCK).await })
            });
            match futures_util::future::try_join_all(reads).await {
                Ok(streams) => {
                    let streams = streams.into_iter().flatten().collect();
                    backoff.reset();
                    self.take(streams)?;
                }
                Err(error) if error.is_retryable() => {
                    if backoff.attempts() == 0 {
                        output::note(format!("can't read the log, trying again: {error}"));
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Readers with what they read: one for all partitions; in a cluster one each, which are waited for
    /// together.
    async fn readers(&self, here: &Installation) -> Result<Vec<(Reader, Vec<String>)>> {
        let keys: Vec<String> = self.positions.keys().cloned().collect();
        let each = if here.redis.is_cluster() { 1 } else { keys.len().max(1) };
        let mut readers = Vec::new();
        for keys in keys.chunks(each) {
            readers.push((here.redis.reader(BLOCK).await?, keys.to_vec()));
        }
        Ok(readers)
    }

    /// Writes what was read, in the order of ids; along a room that is the order of the log.
    fn take(&mut self, streams: Vec<(String, Vec<RawEntry>)>) -> Outcome {
        let mut read = Vec::new();
        for (key, entries) in streams {
            if let (Some(position), Some(last)) = (self.positions.get_mut(&key), entries.last()) {
                *position = last.id;
            }
            read.extend(entries);
        }
        read.sort_by_key(|entry| entry.id);
        for raw in read {
            if self.left == 0 || !self.wants(&raw) {
                continue;
            }
            let id = raw.id;
            match raw.into_entry().and_then(|entry| self.form(&entry)) {
                Ok(line) => output::line(line)?,
                Err(error) => output::note(format!("entry {id} can't be shown: {error}")),
            }
            self.left -= 1;
        }
        Ok(())
    }

    fn wants(&self, raw: &RawEntry) -> bool {
        self.room.as_ref().is_none_or(|room| raw.text("r") == Some(room.as_str()))
    }

    fn form(&self, entry: &Entry) -> Result<Vec<u8>> {
        if self.json { item::json_line(entry) } else { item::human_line(entry).map(String::into_bytes) }
    }
}
