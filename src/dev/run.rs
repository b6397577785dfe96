//! From the options to the last line, and back.

use std::io::Write as _;

use tokio::net::TcpListener;
use tracing::warn;

use super::folder::Folder;
use super::profile::{self, Profile};
use super::servers::Servers;
use super::services::Services;
use super::{DevArgs, screen};
use crate::config::{Secret, Settings};
use crate::error::{Error, Kind, Result};
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Runs all of Millstream until `shutdown`. Sets up logging itself: only the settings, which it
/// reads, say how.
///
/// # Errors
/// [`Kind::Config`] for what the person can mend: settings, a port that is taken, a missing program.
pub async fn run(args: &DevArgs, shutdown: Shutdown) -> Result<()> {
    let folder = Folder::open(&args.data_dir)?;
    let Profile { mut settings, redis_url, database_url, loaded } = profile::settings(args, &folder)?;
    telemetry::init(&settings.log)?;
    for warning in &loaded.warnings {
        warn!("{warning}");
    }
    // Before the servers: a port that is taken should not take seconds to tell.
    let edge = bind("edge", &settings.edge.listen).await?;
    settings.edge.listen = address(&edge)?;

    let starting = Servers::start(&folder, redis_url, database_url);
    let Some(servers) = finished_or_stopped(starting, &shutdown).await else { return Ok(()) };
    let mut servers = servers?;
    settings.redis.url = Secret::new(&servers.redis_url);
    settings.database.url = Secret::new(&servers.database_url);
    let ended = serve(&folder, &settings, &mut servers, edge, &shutdown).await;
    servers.stop().await;
    ended
}

/// Serves until stopping is requested or something ends that shouldn't. The servers outlive it.
async fn serve(
    folder: &Folder,
    settings: &Settings,
    servers: &mut Servers,
    edge: TcpListener,
    shutdown: &Shutdown,
) -> Result<()> {
    folder.write("redis.url", &servers.redis_url)?;
    folder.write("postgres.url", &servers.database_url)?;
    profile::write_config(folder, settings)?;
    let mut services = Services::start(settings, edge).await?;
    let ready = tokio::select! {
        ready = services.ready() => ready.map(|()| true),
        () = shutdown.requested() => Ok(false),
    };
    let ended = match ready {
        Ok(true) => {
            show(folder, settings, servers);
            tokio::select! {
                () = shutdown.requested() => Ok(()),
                error = servers.ended() => Err(error),
                error = services.ended() => Err(error),
            }
        }
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    services.stop(*settings.shutdown.grace).await;
    ended
}

/// The first screen, and the last line, which tells a script when to begin.
fn show(folder: &Folder, settings: &Settings, servers: &Servers) {
    let (edge, api) = (&settings.edge.listen, &settings.api.listen);
    let screen = screen::text(folder, settings, servers, edge, api);
    let mut out = std::io::stdout().lock();
    // Nobody reads: then there is nobody to tell.
    let _ = writeln!(out, "{screen}ready edge={edge} api={api}").and_then(|()| out.flush());
}

/// The result of `work`, or nothing if stopping was requested meanwhile: `work` is finished even
/// then, because what it starts must be known to be stopped.
async fn finished_or_stopped(
    work: impl Future<Output = Result<Servers>>,
    shutdown: &Shutdown,
) -> Option<Result<Servers>> {
    let result = work.await;
    if !shutdown.is_requested() {
        return Some(result);
    }
    if let Ok(servers) = result {
        servers.stop().await;
    }
    None
}

async fn bind(name: &str, listen: &str) -> Result<TcpListener> {
    TcpListener::bind(listen).await.map_err(|e| {
        let what =
            format!("listen on {listen}: give another address by --{name}-listen, 127.0.0.1:0 for any free port");
        Error::new(Kind::Config, what).caused_by(e)
    })
}

fn address(listener: &TcpListener) -> Result<String> {
    let address = listener.local_addr().map_err(|e| Error::internal("read the address of a listener").caused_by(e))?;
    Ok(address.to_string())
}
