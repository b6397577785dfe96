//! `millstream init`: what has to be there before anything runs.

use serde_json::json;

use super::ending::Outcome;
use super::{output, settings};
use crate::config::mask_url;
use crate::model::Partitions;
use crate::service::SettingsArgs;
use crate::store::Store;

/// Prepares Redis and Postgres: records how the log is made, and brings the archive's tables up to date.
///
/// It may be run at any time, by several at once, and again after every upgrade: what is done stays done.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream init\n  \
    millstream init --config /etc/millstream.toml\n  \
    DATABASE_URL=postgres://owner@db/mill millstream init --set redis.partitions=64")]
pub(super) struct InitArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Prepares both, and says what it did.
pub(super) async fn run(args: InitArgs, flags: &SettingsArgs) -> Outcome {
    let settings = settings::load(flags)?;
    let partitions = Partitions::new(settings.redis.partitions)?;
    let redis = settings::connect(&settings).await?;
    let recorded = !settings::has_log(&redis).await?;
    redis.check_meta(partitions).await?;
    let store = Store::connect(&settings.database)?;
    let place = mask_url(settings.database.url.expose());
    let was_current = store.is_migrated().await.map_err(|error| error.context(&format!("use {place}")))?;
    store.migrate().await?;
    store.close().await;

    if args.json {
        return output::json(&json!({
            "redis": { "recorded": recorded, "prefix": settings.redis.prefix, "partitions": partitions.count() },
            "postgres": { "migrated": !was_current },
        }));
    }
    let (prefix, count) = (&settings.redis.prefix, partitions.count());
    let url = mask_url(settings.redis.url.expose());
    output::line(match recorded {
        true => format!("redis     {url}: recorded the log {prefix:?} with {count} partitions"),
        false => format!("redis     {url}: the log {prefix:?} with {count} partitions was there already"),
    })?;
    output::line(match was_current {
        true => format!("postgres  {place}: the tables were up to date"),
        false => format!("postgres  {place}: made the tables up to date"),
    })?;
    output::line("ready for the processes; an archive worker prepares the partitions when it starts")
}
