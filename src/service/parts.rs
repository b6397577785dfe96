//! Hands over to the modules that do the work of each process.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::config::{Process, Settings};
use crate::error::{Error, Result};
use crate::group::Runner;
use crate::history::History;
use crate::model::Partitions;
use crate::replay::ReplayGroup;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry::{CHECK_INTERVAL, Part, Readiness};
use crate::{api, archive, callback, edge};

/// What a process works with.
pub(super) struct Given {
    pub(super) settings: Arc<Settings>,
    pub(super) redis: Redis,
    pub(super) main: Option<TcpListener>,
    pub(super) readiness: Readiness,
    pub(super) shutdown: Shutdown,
}

/// The parts that have to say that they are well before the process is ready, by the names under
/// which the modules register them.
pub(super) fn names(process: Process) -> &'static [&'static str] {
    match process {
        Process::Edge => &["listener", "log", "redis"],
        Process::Archive => &["log", "postgres", "redis"],
        Process::Replay | Process::Api => &["postgres", "redis"],
        Process::Callback => &["callback"],
        Process::Tool => &[],
    }
}

/// The parts that a process may say `ready` without.
pub(super) fn not_awaited(process: Process) -> &'static [&'static str] {
    match process {
        Process::Edge => &["log"],
        _ => &[],
    }
}

/// Works until stopping is requested.
pub(super) async fn run(process: Process, given: Given) -> Result<()> {
    match process {
        Process::Edge => run_edge(given).await,
        Process::Archive => run_archive(given).await,
        Process::Replay => run_replay(given).await,
        Process::Callback => run_callback(given).await,
        Process::Api => run_api(given).await,
        Process::Tool => Err(Error::internal("run the command line as a process: it is none")),
    }
}

async fn run_edge(given: Given) -> Result<()> {
    let Given { settings, redis, main, readiness, shutdown } = given;
    let listener = main.ok_or_else(|| Error::internal("run the edge: it has no listener"))?;
    edge::run(settings, redis, listener, readiness, shutdown).await
}

async fn run_api(given: Given) -> Result<()> {
    let Given { settings, redis, main, readiness, shutdown } = given;
    let listener = main.ok_or_else(|| Error::internal("run the API: it has no listener"))?;
    let store = Store::connect(&settings.database)?;
    api::run(settings, redis, store, listener, readiness, shutdown).await
}

async fn run_archive(given: Given) -> Result<()> {
    let Given { settings, redis, readiness, shutdown, .. } = given;
    let store = Store::connect(&settings.database)?;
    let partitions = Partitions::new(settings.redis.partitions)?;
    archive::run(&settings, redis, store, partitions, shutdown, &readiness).await
}

async fn run_replay(given: Given) -> Result<()> {
    let Given { settings, redis, readiness, shutdown, .. } = given;
    let store = Store::connect_for_pages(&settings.database)?;
    let _pings =
        AbortOnDropHandle::new(tokio::spawn(ping(store.clone(), readiness.check("postgres"), shutdown.clone())));
    // What is asked of the log must not queue behind what the group does.
    let history = History::new(redis.another().await?, store, &settings.replay);
    let partitions = Partitions::new(settings.redis.partitions)?;
    Runner::new(redis.clone(), settings.group.clone(), partitions)
        .grace(*settings.shutdown.grace)
        .readiness(readiness.check("redis"))
        .run(ReplayGroup::new(redis, history), shutdown)
        .await
}

async fn run_callback(given: Given) -> Result<()> {
    let Given { settings, redis, readiness, shutdown, .. } = given;
    let partitions = Partitions::new(settings.redis.partitions)?;
    callback::run(&settings, redis, partitions, shutdown, &readiness).await
}

async fn ping(store: Store, part: Part, shutdown: Shutdown) {
    while let Some(answer) = shutdown.or(store.ping()).await {
        part.report(&answer);
        if !shutdown.sleep(CHECK_INTERVAL).await {
            return;
        }
    }
}
