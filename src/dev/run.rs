//! From the options to the last line, and back.

use std::io::Write as _;

use super::folder::Folder;
use super::profile::{self, Profile};
use super::servers::Servers;
use super::services::{Addresses, Services};
use super::{DevArgs, screen};
use crate::config::{Process, Secret, Settings};
use crate::error::{Error, Kind, Result};
use crate::service::{SettingsArgs, prepare};
use crate::shutdown::Shutdown;
use crate::sockets::files_max;
use crate::telemetry;

/// Runs all of Millstream until SIGTERM or SIGINT. Sets up logging itself: only the settings, which
/// it reads, say how.
///
/// # Errors
/// [`Kind::Config`] for what the person can mend: settings, a port that is taken, a missing program.
pub async fn run(args: &DevArgs, flags: &SettingsArgs) -> Result<()> {
    let shutdown = Shutdown::on_signals()?;
    let folder = Folder::open(&args.data_dir)?;
    let Profile { mut settings, redis_url, database_url, loaded } = profile::settings(args, flags, &folder)?;
    prepare(Process::Tool, &loaded)?;
    profile::share_files(&mut settings, files_max());
    for (listen, option) in [(&settings.edge.listen, "--edge-listen"), (&settings.api.listen, "--api-listen")] {
        assert_free(listen, option).await?;
    }
    let mut servers = Servers::start(&folder, redis_url, database_url).await?;
    settings.redis.url = Secret::new(&servers.redis_url);
    settings.database.url = Secret::new(&servers.database_url);
    // What was started is stopped, even if stopping was requested meanwhile.
    let ended = match shutdown.is_requested() {
        true => Ok(()),
        false => serve(&folder, settings, &mut servers, &shutdown).await,
    };
    servers.stop().await;
    ended
}

/// Serves until stopping is requested or something ends that shouldn't. The servers outlive it.
async fn serve(folder: &Folder, mut settings: Settings, servers: &mut Servers, shutdown: &Shutdown) -> Result<()> {
    let mut services = Services::start(&settings, telemetry::install_metrics()?);
    let ready = tokio::select! {
        ready = services.ready() => ready.map(Some),
        error = servers.ended() => Err(error),
        () = shutdown.requested() => Ok(None),
    };
    let told = ready.and_then(|ready| match ready {
        Some(addresses) => tell(folder, &mut settings, servers, &addresses).map(|()| true),
        None => Ok(false),
    });
    let ended = match told {
        Ok(true) => tokio::select! {
            () = shutdown.requested() => Ok(()),
            error = servers.ended() => Err(error),
            error = services.ended() => Err(error),
        },
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    services.stop(*settings.shutdown.grace).await;
    ended
}

/// Tells where everything is: in files for the command line, on the first screen for a person, and
/// by the last line for a script.
fn tell(folder: &Folder, settings: &mut Settings, servers: &Servers, addresses: &Addresses) -> Result<()> {
    settings.edge.listen = addresses.edge.to_string();
    settings.api.listen = addresses.api.to_string();
    folder.write("redis.url", &servers.redis_url)?;
    folder.write("postgres.url", &servers.database_url)?;
    profile::write_config(folder, settings)?;
    let (screen, Addresses { edge, api }) = (screen::text(folder, settings, servers), addresses);
    let mut out = std::io::stdout().lock();
    // Nobody reads: then there is nobody to tell.
    let _ = writeln!(out, "{screen}ready edge={edge} api={api}").and_then(|()| out.flush());
    Ok(())
}

/// Before the servers are started: a port that is taken should not take seconds to tell.
async fn assert_free(listen: &str, option: &str) -> Result<()> {
    let bound = tokio::net::TcpListener::bind(listen).await;
    bound.map(drop).map_err(|e| {
        let what = format!("listen on {listen}: give another address by {option}, 127.0.0.1:0 for any free port");
        Error::new(Kind::Config, what).caused_by(e)
    })
}
