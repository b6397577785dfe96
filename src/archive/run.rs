//! The archive worker: the group, and what a process does once and not per partition.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tracing::{info, warn};

use super::handler::ArchiveGroup;
use super::summary::{SUMMARY_INTERVAL, Summary};
use crate::backoff::Backoff;
use crate::config::{GroupSettings, RetentionSettings, Settings};
use crate::error::{Error, Result};
use crate::group::Runner;
use crate::model::Partitions;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry::{CHECK_INTERVAL, Part, Readiness, names};

/// How often months are made and dropped. They are made two months ahead, so an hour is early.
const MONTHS_INTERVAL: Duration = Duration::from_secs(3_600);
/// How often the lag of all partitions is compared with `archive.warn_pending`.
const LAG_INTERVAL: Duration = Duration::from_secs(1);
/// First and longest wait before the tables are looked for again.
const TABLES_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Deliveries before an entry is parked unseen. Each death of a worker is a delivery, and with batches
/// of a minute and an outage of Postgres many may die over the same entries, which are no worse for it.
const DELIVERIES_MIN: u64 = 1_000;

/// Archives until `shutdown`. Redis or Postgres being away is no reason to end.
///
/// Dropping the future is like killing the worker: what was not acknowledged comes again.
///
/// # Errors
/// If a setting is out of range.
pub async fn run(
    settings: &Settings,
    redis: Redis,
    store: Store,
    partitions: Partitions,
    shutdown: Shutdown,
    readiness: &Readiness,
) -> Result<()> {
    let (redis_part, postgres_part) = (readiness.check("redis"), readiness.check("postgres"));
    let mut tasks = JoinSet::new();
    let pinged = store.clone();
    tasks.spawn(until(shutdown.clone(), CHECK_INTERVAL, move || {
        let (store, part) = (pinged.clone(), postgres_part.clone());
        async move { part.report(&store.ping().await) }
    }));
    if !tables(settings, &store, &shutdown).await {
        return Ok(());
    }
    let group = ArchiveGroup::new(settings, redis.clone(), store.clone(), partitions);
    let summary = group.summary();
    tasks.spawn(watch_log(redis.clone(), partitions, readiness.check("log"), shutdown.clone()));
    tasks.spawn(keep_months(store, redis.clone(), settings.retention.clone(), shutdown.clone()));
    tasks.spawn(watch_writes(summary.clone(), readiness.check("archive"), shutdown.clone()));
    tasks.spawn(watch_lag(summary.clone(), settings.archive.warn_pending, shutdown.clone()));
    tasks.spawn(log_summary(summary, shutdown.clone()));
    let deliveries = settings.group.max_deliveries.max(DELIVERIES_MIN);
    let runner = Runner::new(redis, GroupSettings { max_deliveries: deliveries, ..settings.group.clone() }, partitions)
        .grace(*settings.shutdown.grace)
        .readiness(redis_part);
    let ended = runner.run(group, shutdown).await;
    while let Some(task) = tasks.join_next().await {
        task.map_err(|e| Error::internal("keep the archive").caused_by(e))?;
    }
    ended
}

/// Waits until the tables are there, and makes them if it may; `false`: stopping was requested first.
async fn tables(settings: &Settings, store: &Store, shutdown: &Shutdown) -> bool {
    let mut backoff = Backoff::new(TABLES_WAIT.0, TABLES_WAIT.1);
    loop {
        let Some(ready) = shutdown.or(make_tables(settings, store)).await else { return false };
        match ready {
            Ok(true) => return true,
            Ok(false) if backoff.attempts() == 0 => {
                warn!("the archive's tables are missing and database.migrate is off: waiting for `millstream init`");
            }
            Err(error) if backoff.attempts() == 0 => warn!(%error, "could not prepare the archive's tables: waiting"),
            _ => (),
        }
        if !shutdown.sleep(backoff.next()).await {
            return false;
        }
    }
}

async fn make_tables(settings: &Settings, store: &Store) -> Result<bool> {
    if !settings.database.migrate {
        return store.is_migrated().await;
    }
    match store.migrate().await {
        Ok(()) => Ok(true),
        // Perhaps an account that may only write, on tables that somebody else has made.
        Err(error) => match store.is_migrated().await {
            Ok(true) => Ok(true),
            _ => Err(error),
        },
    }
}

/// Calls `work` again and again, until stopping is requested. `work` may be dropped at any await.
async fn until<F, Fut>(shutdown: Shutdown, interval: Duration, mut work: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = ()>,
{
    while shutdown.or(work()).await.is_some() && shutdown.sleep(interval).await {}
}

/// Makes months ahead and drops those that are too old.
async fn keep_months(store: Store, redis: Redis, retention: RetentionSettings, shutdown: Shutdown) {
    until(shutdown, MONTHS_INTERVAL, || async {
        if let Err(error) = store.make_months_ahead().await {
            warn!(%error, "could not make months of the archive ahead: trying again in an hour");
        }
        let Some(max_age) = retention.archive_max_age else { return };
        let dropped = async { store.drop_months(*max_age, redis.time_ms(&redis.keys().meta()).await?).await };
        match dropped.await {
            Ok(dropped) => metrics::counter!(names::ARCHIVE_MONTHS_DROPPED).increment(dropped as u64),
            Err(error) => warn!(%error, "could not drop old months of the archive: trying again in an hour"),
        }
    })
    .await;
}

/// Says whether every partition is initialised, by this worker or another.
async fn watch_log(redis: Redis, partitions: Partitions, part: Part, shutdown: Shutdown) {
    until(shutdown, CHECK_INTERVAL, || async {
        let epochs = partitions.all().map(|partition| redis.epoch(partition));
        match futures_util::future::try_join_all(epochs).await {
            Ok(epochs) if epochs.iter().all(Option::is_some) => part.ok(),
            Ok(_) => part.failed("some partitions are not initialised yet"),
            Err(error) => part.failed(error),
        }
    })
    .await;
}

/// Postgres may answer and still refuse what is written: a column that is gone, no permission, no room.
async fn watch_writes(summary: Arc<Summary>, part: Part, shutdown: Shutdown) {
    until(shutdown, CHECK_INTERVAL, || async { part.report(&summary.can_write()) }).await;
}

async fn watch_lag(summary: Arc<Summary>, warn_pending: u64, shutdown: Shutdown) {
    until(shutdown, LAG_INTERVAL, || async { summary.watch_lag(warn_pending) }).await;
}

async fn log_summary(summary: Arc<Summary>, shutdown: Shutdown) {
    while shutdown.sleep(SUMMARY_INTERVAL).await {
        summary.log();
    }
    info!("stopping the archive worker");
    summary.log();
}
