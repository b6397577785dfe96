//! Settings for a tool, and connections made with them.

use super::ending::Outcome;
use crate::config::{Loaded, Mistakes, Process, Settings, Source, mask_url};
use crate::error::Result;
use crate::model::Partitions;
use crate::service::SettingsArgs;
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry;

/// What a tool logs unless it is told otherwise: it has its own way to say what it does.
const LOG_LEVEL: &str = "warn";

/// Redis with the settings that lead there.
pub(super) struct Installation {
    pub(super) settings: Settings,
    pub(super) partitions: Partitions,
    pub(super) redis: Redis,
}

/// Reads all layers for `process`.
pub(super) fn load_for(flags: &SettingsArgs, process: Process) -> Result<Loaded, Mistakes> {
    Settings::load(&flags.options(process))
}

/// Reads all layers for a tool, and has the tool's own log follow them.
pub(super) fn load(flags: &SettingsArgs) -> Outcome<Settings> {
    let loaded = load_for(flags, Process::Tool)?;
    let mut settings = loaded.settings;
    if loaded.sources.get("log.level").is_none_or(|source| *source == Source::Default) {
        settings.log.level = LOG_LEVEL.to_owned();
    }
    telemetry::init(&settings.log)?;
    Ok(settings)
}

/// Reads the settings and connects to Redis.
pub(super) async fn open(flags: &SettingsArgs) -> Outcome<Installation> {
    let settings = load(flags)?;
    let partitions = Partitions::new(settings.redis.partitions)?;
    let redis = connect(&settings).await?;
    // Looking at a place where no log is must not make one.
    if has_log(&redis).await? {
        redis.check_meta(partitions).await?;
    }
    Ok(Installation { settings, partitions, redis })
}

/// Whether it is recorded how the log is made.
pub(super) async fn has_log(redis: &Redis) -> Result<bool> {
    Ok(redis.command("EXISTS", vec![redis.keys().meta()]).await?.int()? == 1)
}

impl Installation {
    /// The archive; connects when it is first used.
    pub(super) fn store(&self) -> Outcome<Store> {
        Ok(Store::connect(&self.settings.database)?)
    }
}

/// Connects to Redis; an error says where it was sought.
pub(super) async fn connect(settings: &Settings) -> Result<Redis> {
    let place = mask_url(settings.redis.url.expose());
    Redis::connect(&settings.redis).await.map_err(|error| error.context(&format!("use {place}")))
}
