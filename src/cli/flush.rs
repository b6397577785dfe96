//! `millstream flush`: returns when what was accepted before is in Postgres.

use std::time::Instant;

use serde_json::json;

use super::ending::Outcome;
use super::{output, settings};
use crate::archive;
use crate::model::Room;
use crate::service::SettingsArgs;

/// Has the archive write what it holds, and returns when everything that was accepted before is in Postgres.
///
/// What the archive gave up as unreadable is among its dead letters and counts as written.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream flush\n  \
    millstream flush --room team:42 --timeout 5s && psql \"$DATABASE_URL\" -c 'select count(*) from messages'")]
pub(super) struct FlushArgs {
    /// Only what this room needs (its partition).
    #[arg(long)]
    room: Option<String>,
    /// Give up after this long; what isn't written then is written later all the same.
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    timeout: humantime::Duration,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Flushes.
pub(super) async fn run(args: FlushArgs, flags: &SettingsArgs) -> Outcome {
    let room = args.room.as_deref().map(Room::new).transpose()?;
    let here = settings::open(flags).await?;
    let store = here.store()?;
    let began = Instant::now();
    let partitions = archive::flush(&here.redis, &store, here.partitions, room.as_ref(), *args.timeout).await?;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    store.close().await;
    if args.json {
        return output::json(&json!({ "partitions": partitions, "ms": ms }));
    }
    let partitions = output::count(partitions as u64, "partition", "partitions");
    output::line(format!("everything accepted before is in Postgres ({partitions}, {ms} ms)"))
}
