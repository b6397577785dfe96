//! Starting and stopping an edge.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::asks::{self, Asks};
use super::control::Control;
use super::cursors::{self, Cursors};
use super::desk::Desks;
use super::files::own_files;
use super::inbox::{self, Replacements};
use super::limits::Limits;
use super::measure::Measures;
use super::pulse::{self, Pulse};
use super::recent::Recent;
use super::registry::Registry;
use super::signals::{self, Signals};
use super::tail::{self, BLOCK, Tail};
use super::{Edge, accept, watch};
use crate::auth::Verifier;
use crate::config::Settings;
use crate::error::Result;
use crate::model::Partitions;
use crate::publish::{Known, Publisher};
use crate::shutdown::Shutdown;
use crate::stream::Redis;
use crate::telemetry::Readiness;

/// Longest wait for each of the last things that are told Redis.
const LAST_STEP: Duration = Duration::from_secs(2);

/// What an edge needs besides itself, and the tasks that work for it.
struct Parts {
    edge: Arc<Edge>,
    /// Work until the process ends.
    workers: JoinSet<()>,
    /// Work until their queues are closed and empty.
    desks: JoinSet<()>,
}

/// Serves clients on `listener` until stopping is requested, then sends them away and leaves
/// everything in order.
///
/// # Errors
/// If the settings can't be used. Redis being away is no reason to end.
pub async fn run(
    settings: Arc<Settings>,
    redis: Redis,
    listener: TcpListener,
    readiness: Readiness,
    shutdown: Shutdown,
) -> Result<()> {
    let building = build(settings, redis, &readiness, shutdown.clone());
    let Some(parts) = shutdown.or(Box::pin(building)).await else { return Ok(()) };
    let parts = parts?;
    let tasks = TaskTracker::new();
    let accepting = readiness.latch("listener");
    accepting.ok();
    info!(edge = %parts.edge.id, "the edge serves");
    accept::run(parts.edge.clone(), listener, readiness, tasks.clone(), shutdown).await;
    accepting.failed("stopping");
    stop(parts, tasks).await;
    Ok(())
}

async fn build(settings: Arc<Settings>, redis: Redis, readiness: &Readiness, shutdown: Shutdown) -> Result<Parts> {
    let partitions = Partitions::new(settings.redis.partitions)?;
    // Never the id of an earlier process: its answers, notes and members are not ours.
    let id = match settings.edge.id.as_str() {
        "" => made_up_id(),
        configured => format!("{configured}-{}", made_up_id()),
    };
    let registry = Arc::new(Registry::new());
    let tail_readers = Tail::readers(&redis, partitions).await?;
    let inbox_reader = redis.reader(BLOCK).await?;
    let signal_reader = redis.signals(&id, partitions).await?;
    // Nobody hears there of a reader that went to another node.
    let kept_bytes = if redis.is_cluster() { 0 } else { settings.edge.tail_bytes };
    let tail = Arc::new(Tail::new(partitions, &tail_readers, kept_bytes));
    let known = Known::new(partitions, Some(tail.clone()));
    let asks = Arc::new(Asks::new());
    let desk_redis = redis.another().await?;
    let recent = Recent::new(&redis, &settings.replay, &asks);
    let (desks, desk_tasks) =
        Desks::start(&desk_redis, &id, *settings.edge.leave_debounce, &asks, &known, &recent, partitions);
    let (signals, signals_out) = Signals::new(&id, partitions);
    let edge = Arc::new(Edge {
        verifier: Verifier::new(&settings.auth)?,
        publisher: Publisher::start(&redis, &settings, partitions, known).await?,
        limits: Limits::new(&settings.limits, own_files(&settings.redis, redis.masters()))?,
        cursors: Arc::new(Cursors::new(redis.clone(), *settings.edge.cursor_ttl)),
        replacements: Replacements::default(),
        pulse: Pulse::new(),
        metrics: Measures::new(),
        connections: AtomicU64::new(0),
        desks: Arc::new(desks),
        id: id.clone(),
        partitions,
        registry: registry.clone(),
        tail: tail.clone(),
        asks: asks.clone(),
        redis: redis.clone(),
        signals,
        settings,
        shutdown,
    });
    let mut workers = JoinSet::new();
    workers.spawn(pulse::run(edge.clone()));
    workers.spawn(tail.clone().run_waker());
    workers.spawn(tail::run(tail, registry.clone(), redis.clone(), tail_readers));
    workers.spawn(signals::run_out(redis, signals_out));
    workers.spawn(signals::run_in(id, signal_reader, registry));
    workers.spawn(asks::run(asks, edge.desks.clone()));
    workers.spawn(cursors::run(edge.cursors.clone(), *edge.settings.edge.cursor_interval));
    let canary = readiness.check("redis");
    workers.spawn(inbox::run(edge.clone(), inbox_reader, canary.clone()));
    workers.spawn(watch::run(edge.clone(), readiness.check("log"), canary));
    Ok(Parts { edge, workers, desks: desk_tasks })
}

fn made_up_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..12].to_owned()
}

/// Sends the clients away, spread over time, and writes what is still to be written. All of it within the grace
/// period, also if Redis doesn't answer.
async fn stop(parts: Parts, tasks: TaskTracker) {
    let Parts { edge, mut workers, mut desks } = parts;
    let (begun, grace) = (Instant::now(), *edge.settings.shutdown.grace);
    // A part of the grace period stays for what comes after the connections.
    let connections_until = begun + grace.mul_f64(0.7);
    edge.registry.control_all(|| Control::Drain(edge.reconnect_after()));
    tasks.close();
    if timeout_at(connections_until, tasks.wait()).await.is_err() {
        warn!(connections = tasks.len(), "gave up waiting for connections to end");
    }
    workers.shutdown().await;
    let soon = || (Instant::now() + LAST_STEP).min(begun + grace);
    match timeout_at(soon(), edge.cursors.write_all()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "some cursors are not written: their devices get a little again"),
        Err(_) => warn!("some cursors are not written: their devices get a little again"),
    }
    let (redis, id) = (edge.redis.clone(), edge.id.clone());
    // The desks end when nobody can order any more.
    drop(edge);
    let _ = timeout_at(soon(), async { while desks.join_next().await.is_some() {} }).await;
    let _ = timeout_at(soon(), redis.forget_edge(&id)).await;
    info!(edge = %id, "the edge has stopped");
}
