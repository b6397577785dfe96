//! All services of Millstream as tasks of this process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::Settings;
use crate::error::{Error, Kind, Result};
use crate::model::Partitions;
use crate::shutdown::{Deadline, Shutdown};
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry::Readiness;
use crate::{archive, callback, edge, replay};

/// How long all services together may take until they are ready: the first start runs migrations.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// The running services.
pub(super) struct Services {
    tasks: JoinSet<(&'static str, Result<()>)>,
    readiness: Vec<(&'static str, Readiness)>,
    shutdown: Shutdown,
}

impl Services {
    /// Starts all of them, the edge on `listener`. Each has connections of its own, as a process would.
    ///
    /// # Errors
    /// If a server can't be reached or a setting can't be used.
    pub(super) async fn start(settings: &Settings, listener: TcpListener) -> Result<Self> {
        let settings = Arc::new(settings.clone());
        let partitions = Partitions::new(settings.redis.partitions)?;
        let mut services = Self { tasks: JoinSet::new(), readiness: Vec::new(), shutdown: Shutdown::new() };
        let redis = async || Redis::connect(&settings.redis).await;
        let store = Store::connect(&settings.database)?;

        let (own, theirs, redis_of_archive) = (settings.clone(), store.clone(), redis().await?);
        services.run("archive", |readiness, shutdown| async move {
            archive::run(&own, redis_of_archive, theirs, partitions, shutdown, &readiness).await
        });
        let (own, redis_of_replay) = (settings.clone(), redis().await?);
        services.run("replay", |readiness, shutdown| async move {
            replay::run(&own, redis_of_replay, store, partitions, shutdown, &readiness).await
        });
        let (own, redis_of_callback) = (settings.clone(), redis().await?);
        services.run("callback", |readiness, shutdown| async move {
            callback::run(&own, redis_of_callback, partitions, shutdown, &readiness).await
        });
        let redis_of_edge = redis().await?;
        services.run("edge", |readiness, shutdown| async move {
            edge::run(settings, redis_of_edge, listener, readiness, shutdown).await
        });
        Ok(services)
    }

    fn run<F>(&mut self, name: &'static str, service: impl FnOnce(Readiness, Shutdown) -> F)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let readiness = Readiness::default();
        let running = service(readiness.clone(), self.shutdown.part());
        self.readiness.push((name, readiness));
        self.tasks.spawn(async move { (name, running.await) });
    }

    /// Waits until all are ready. May be dropped at any time.
    ///
    /// # Errors
    /// With what keeps them from being ready after [`READY_TIMEOUT`].
    pub(super) async fn ready(&self) -> Result<()> {
        let begin = Instant::now();
        for (name, readiness) in &self.readiness {
            let left = READY_TIMEOUT.saturating_sub(begin.elapsed());
            if tokio::time::timeout(left, readiness.ready()).await.is_err() {
                let why = readiness.report().failures();
                return Err(Error::new(Kind::Config, format!("wait until {name} is ready: {why}")));
            }
        }
        Ok(())
    }

    /// Waits until one ends, which it shouldn't before [`Services::stop`]. May be dropped at any time.
    pub(super) async fn ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Err(error)))) => error.context(&format!("run {name}")),
            Some(Ok((name, Ok(())))) => Error::internal(format!("run {name}: it ended by itself")),
            Some(Err(panic)) => Error::internal("run a service").caused_by(panic),
            None => std::future::pending().await,
        }
    }

    /// Has all of them finish what they hold; what isn't finished within `grace` is dropped, which
    /// loses nothing: it is in the log.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.shutdown.request();
        let deadline = Deadline::after(grace);
        while let Some(Some(ended)) = deadline.within(self.tasks.join_next()).await {
            match ended {
                Ok((name, Ok(()))) => info!("stopped {name}"),
                Ok((name, Err(error))) => warn!(%error, "{name} ended badly"),
                Err(error) => warn!(%error, "a service panicked while it stopped"),
            }
        }
        if !self.tasks.is_empty() {
            warn!("{} services did not stop within {grace:?} and are dropped", self.tasks.len());
        }
    }
}
