//! One process from its listeners to its end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::health::{self, Health};
use super::listen::listen;
use super::{parts, start};
use crate::config::{Process, Settings, Span};
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::telemetry::{Metrics, Part, Readiness};

/// What the parts of a process get of `shutdown.grace`; the rest is for reporting and leaving.
const PARTS_OF_GRACE: f64 = 0.9;
/// After this part of `shutdown.grace` the process ends whatever it is doing, so that it has ended when that is over.
const MOST_OF_GRACE: f64 = 0.97;

/// A process that is about to run; several may run in one program.
#[derive(Debug)]
pub struct Service {
    /// Which one.
    pub process: Process,
    /// Its settings.
    pub settings: Arc<Settings>,
    /// The metrics of the program.
    pub metrics: Arc<Metrics>,
    /// When to stop.
    pub shutdown: Shutdown,
}

/// The addresses a process listens on.
struct Listeners {
    /// Health and metrics.
    health: TcpListener,
    /// What it is there for, unless that is the above.
    main: Option<TcpListener>,
    /// Where others find it.
    address: SocketAddr,
}

impl Service {
    /// Runs the process until it is asked to stop; calls `announce` once, when it serves.
    ///
    /// Dropping the future is like killing the process: others go on where it was.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if a listener can't be bound or Redis isn't as
    /// the settings say; whatever ends its work before that was asked for.
    pub async fn run(self, announce: impl FnOnce(SocketAddr) + Send) -> Result<()> {
        let Listeners { health, main, address } = self.bind().await?;
        let readiness = Readiness::default();
        let start = readiness.latch("start");
        for part in parts::names(self.process) {
            // They say more themselves; until then the process is not ready.
            let _ = readiness.check(part);
        }
        let told = Health { readiness: readiness.clone(), metrics: Some(self.metrics.clone()) };
        tokio::select! {
            ended = Box::pin(self.work(main, &readiness, &start)) => ended,
            never = health::serve(&health, told) => match never {},
            never = self.announced(&readiness, address, announce) => match never {},
            () = self.too_late(&start) => {
                warn!(process = %self.process, "gave up finishing within {}: others go on with it", self.settings.shutdown.grace);
                Ok(())
            }
        }
    }

    async fn bind(&self) -> Result<Listeners> {
        let health = listen("metrics.listen", self.settings.metrics_listen(self.process)).await?;
        let main = match self.process {
            Process::Edge => Some(listen("edge.listen", &self.settings.edge.listen).await?),
            Process::Api => Some(listen("api.listen", &self.settings.api.listen).await?),
            _ => None,
        };
        let address = main.as_ref().unwrap_or(&health).local_addr();
        let address = address.map_err(|e| Error::internal("read the address of a listener").caused_by(e))?;
        Ok(Listeners { health, main, address })
    }

    async fn work(&self, main: Option<TcpListener>, readiness: &Readiness, start: &Part) -> Result<()> {
        let finding = start::redis(self.process, &self.settings, start, &self.shutdown);
        let found = match &main {
            // Its clients hear at once that it is starting, and are not left waiting.
            Some(listener) => {
                let told = Health { readiness: readiness.clone(), metrics: None };
                tokio::select! {
                    found = finding => found,
                    never = health::serve(listener, told) => match never {},
                }
            }
            None => finding.await,
        };
        let Some(redis) = found? else { return Ok(()) };
        start.ok();
        let watch = start::watch(redis.clone(), self.settings.clone(), self.shutdown.clone());
        let _watch = AbortOnDropHandle::new(tokio::spawn(watch));
        let given = parts::Given {
            settings: self.settings_of_parts(),
            redis,
            main,
            readiness: readiness.clone(),
            shutdown: self.shutdown.clone(),
        };
        parts::run(self.process, given).await?;
        if !self.shutdown.is_requested() {
            return Err(Error::internal(format!("keep the {} process at work: it ended by itself", self.process)));
        }
        info!(process = %self.process, "stopped in order");
        Ok(())
    }

    fn settings_of_parts(&self) -> Arc<Settings> {
        let mut settings = Settings::clone(&self.settings);
        settings.shutdown.grace = Span(settings.shutdown.grace.mul_f64(PARTS_OF_GRACE));
        Arc::new(settings)
    }

    async fn announced(
        &self,
        readiness: &Readiness,
        address: SocketAddr,
        announce: impl FnOnce(SocketAddr),
    ) -> Infallible {
        // An edge serves before the log is initialised: who starts it first could wait for ever for the
        // archive worker that comes after it. Until then it answers `unavailable`, and is not `/readyz`.
        readiness.ready_but(parts::not_awaited(self.process)).await;
        info!(process = %self.process, %address, "ready on {address}");
        announce(address);
        std::future::pending().await
    }

    /// Returns when the process has been stopping for longer than it may.
    async fn too_late(&self, start: &Part) {
        self.shutdown.requested().await;
        start.failed("stopping");
        tokio::time::sleep(self.settings.shutdown.grace.mul_f64(MOST_OF_GRACE)).await;
    }
}
