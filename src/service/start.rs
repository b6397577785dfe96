//! Finding Redis, and whether it is one that can be relied on.

use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use crate::backoff::Backoff;
use crate::config::{Durability, Process, Settings};
use crate::error::{Kind, Result};
use crate::model::Partitions;
use crate::shutdown::Shutdown;
use crate::stream::{Redis, Verified};
use crate::telemetry::{Part, names};

/// First and longest wait before Redis is tried again.
const WAIT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How often it is looked whether Redis still keeps what `redis.durability` promises.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Waits until there is a Redis that can be relied on; nothing if stopping is requested first.
/// Meanwhile `part` says what is missing.
pub(super) async fn redis(
    process: Process,
    settings: &Settings,
    part: &Part,
    shutdown: &Shutdown,
) -> Result<Option<Redis>> {
    let mut backoff = Backoff::new(WAIT.0, WAIT.1);
    loop {
        let Some(found) = shutdown.or(find(process, settings)).await else { return Ok(None) };
        match found {
            Ok(redis) => {
                if backoff.attempts() > 0 {
                    info!("found Redis");
                }
                return Ok(Some(redis));
            }
            Err(error) if error.is_retryable() => {
                if backoff.attempts() == 0 {
                    warn!(%error, "waiting for Redis");
                }
                part.failed(&error);
            }
            Err(error) => return Err(error),
        }
        if !shutdown.sleep(backoff.next()).await {
            return Ok(None);
        }
    }
}

async fn find(process: Process, settings: &Settings) -> Result<Redis> {
    let redis = Redis::connect(&settings.redis).await?;
    let verified = look(&redis, settings.redis.durability).await?;
    if promises(process) {
        verified.or_refuse(settings.redis.durability)?;
    }
    redis.check_meta(Partitions::new(settings.redis.partitions)?).await?;
    Ok(redis)
}

/// Whether the process tells clients that their messages are durable.
fn promises(process: Process) -> bool {
    matches!(process, Process::Edge | Process::Api)
}

/// Looks whether Redis keeps what is promised; says so in the log and in the metrics.
async fn look(redis: &Redis, wanted: Durability) -> Result<Verified> {
    let verified = redis.verify_durability(wanted).await?;
    match &verified {
        Verified::Yes => (),
        Verified::Unknown(why) => warn!(why, "can't verify that Redis keeps redis.durability = \"{wanted}\": {why}"),
        Verified::No(mend) => warn!("Redis doesn't keep redis.durability = \"{wanted}\"; needed: {}", mend.join("; ")),
    }
    let known = if verified == Verified::Yes { 1.0 } else { 0.0 };
    metrics::gauge!(names::DURABILITY_VERIFIED).set(known);
    Ok(verified)
}

/// Looks again from time to time: settings of Redis can be changed while it runs, a replica that takes
/// over may have others, and a Redis that was emptied has forgotten what the log was made with. Ends
/// when stopping is requested.
pub(super) async fn watch(redis: Redis, settings: Arc<Settings>, shutdown: Shutdown) {
    let mut last = (None, None);
    while shutdown.sleep(LOOK_AGAIN).await {
        let Some(now) = shutdown.or(changes(&redis, &settings)).await else { return };
        // No answer is no news: readiness tells that.
        let Ok(now) = now else { continue };
        if now != last {
            for change in [&now.0, &now.1].into_iter().flatten() {
                error!("Redis is no longer as the settings need it: {change}");
            }
        }
        last = now;
    }
}

/// What is wrong with the durability of Redis, and with what the log was made with.
async fn changes(redis: &Redis, settings: &Settings) -> Result<(Option<String>, Option<String>)> {
    let wanted = settings.redis.durability;
    let verified = redis.verify_durability(wanted).await?;
    metrics::gauge!(names::DURABILITY_VERIFIED).set(if verified == Verified::Yes { 1.0 } else { 0.0 });
    let durability = match verified {
        Verified::No(mend) => Some(format!("redis.durability = \"{wanted}\" needs {}", mend.join("; "))),
        Verified::Yes | Verified::Unknown(_) => None,
    };
    let meta = match redis.check_meta(Partitions::new(settings.redis.partitions)?).await {
        Err(error) if error.kind() == Kind::Config => Some(error.to_string()),
        other => other.map(|()| None)?,
    };
    Ok((durability, meta))
}
