//! All processes of Millstream as tasks of this one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::config::{Process, Settings};
use crate::error::{Error, Kind, Result};
use crate::service::Service;
use crate::shutdown::{Deadline, Shutdown};
use crate::telemetry::Metrics;

/// All of them, in the order in which their being ready is waited for: the archive worker makes the
/// partitions that the edge needs.
const ALL: [Process; 5] = [Process::Archive, Process::Replay, Process::Callback, Process::Api, Process::Edge];
/// How long all together may take until they are ready: the first start runs migrations.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Over what a process takes to give up by itself.
const STOP_SLACK: Duration = Duration::from_secs(1);

/// The running processes.
pub(super) struct Services {
    tasks: JoinSet<(Process, Result<()>)>,
    starting: Vec<(Process, oneshot::Receiver<SocketAddr>)>,
    shutdown: Shutdown,
}

/// Where others find what runs here.
pub(super) struct Addresses {
    /// The WebSocket.
    pub(super) edge: SocketAddr,
    /// Management HTTP.
    pub(super) api: SocketAddr,
}

impl Services {
    /// Starts all of them.
    pub(super) fn start(settings: &Settings, metrics: Metrics) -> Self {
        let (mut tasks, mut starting, shutdown) = (JoinSet::new(), Vec::new(), Shutdown::new());
        let metrics = Arc::new(metrics);
        for process in ALL {
            let mut settings = settings.clone();
            if process != Process::Edge {
                // One recorder serves all of them; the edge's listener shows it.
                settings.metrics.listen = "127.0.0.1:0".into();
            }
            let (settings, metrics, shutdown) = (Arc::new(settings), metrics.clone(), shutdown.part());
            let service = Service { process, settings, metrics, shutdown };
            let (say, heard) = oneshot::channel();
            starting.push((process, heard));
            let announce = |address| {
                // Nobody waits for it any more once stopping was requested.
                let _ = say.send(address);
            };
            tasks.spawn(async move { (process, service.run(announce).await) });
        }
        Self { tasks, starting, shutdown }
    }

    /// Waits until all are ready. May be dropped at any time, and is not called again.
    ///
    /// # Errors
    /// With the first that ended instead, or what is not ready in time.
    pub(super) async fn ready(&mut self) -> Result<Addresses> {
        let deadline = Deadline::after(READY_TIMEOUT);
        let local = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut addresses = Addresses { edge: local, api: local };
        for (process, mut heard) in std::mem::take(&mut self.starting) {
            let address = tokio::select! {
                address = deadline.within(&mut heard) => address,
                error = self.ended() => return Err(error),
            };
            match (process, address) {
                (Process::Edge, Some(Ok(address))) => addresses.edge = address,
                (Process::Api, Some(Ok(address))) => addresses.api = address,
                (_, Some(Ok(_))) => {}
                // It has ended, and its task says why.
                (_, Some(Err(_))) => return Err(self.ended().await),
                (_, None) => {
                    let what = format!(
                        "wait until {process} is ready: not within {READY_TIMEOUT:?}; --set log.level=info tells more"
                    );
                    return Err(Error::new(Kind::Config, what));
                }
            }
        }
        Ok(addresses)
    }

    /// Waits until one ends, which it shouldn't before [`Services::stop`]. May be dropped at any time.
    pub(super) async fn ended(&mut self) -> Error {
        match self.tasks.join_next().await {
            Some(Ok((process, Err(error)))) => error.context(&format!("run {process}")),
            Some(Ok((process, Ok(())))) => Error::internal(format!("run {process}: it ended by itself")),
            Some(Err(panic)) => Error::internal("run a process").caused_by(panic),
            None => std::future::pending().await,
        }
    }

    /// Has all of them finish what they hold; what isn't finished within `grace` is dropped, which
    /// loses nothing: it is in the log.
    pub(super) async fn stop(mut self, grace: Duration) {
        self.shutdown.request();
        let deadline = Deadline::after(grace + STOP_SLACK);
        while let Some(Some(ended)) = deadline.within(self.tasks.join_next()).await {
            match ended {
                Ok((process, Ok(()))) => info!("stopped {process}"),
                Ok((process, Err(error))) => warn!("{process} ended badly: failed to {error}"),
                Err(panic) => warn!("a process panicked while it stopped: {panic}"),
            }
        }
        if !self.tasks.is_empty() {
            warn!("{} processes did not stop within {grace:?} and are dropped", self.tasks.len());
        }
    }
}
