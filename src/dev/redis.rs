//! A Redis of our own, as durable as `durability = "fsync"` asks.

use std::time::{Duration, Instant};

use tokio::process::Command;

use super::folder::Folder;
use super::programs;
use super::server::{Server, end_stale};
use crate::config::{RedisSettings, Secret, Span};
use crate::error::{Error, Kind, Result};
use crate::stream::Redis;

/// How long reading its files may take at the start.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a starting Redis is asked whether it serves.
const POLL: Duration = Duration::from_millis(50);

/// Starts it on the folder's data, and waits until it serves. Its URL, and the server.
///
/// # Errors
/// [`Kind::Config`] if it is not installed or does not start.
pub(super) async fn start(folder: &Folder) -> Result<(String, Server)> {
    let program = programs::redis_server()?;
    let dir = folder.sub("redis")?;
    if let (Some(pid), Some(port)) = (folder.read("redis/server.pid"), folder.read("redis.port")) {
        let listens = format!("127.0.0.1:{port}");
        end_stale("redis-server", pid.parse().unwrap_or(0), &["-server", &listens], "TERM").await;
    }
    let (port, password) = (folder.port("redis")?, folder.secret("servers-password")?);
    // In a file and not as arguments: everybody may read a command line.
    folder.write("redis.conf", &config(port, &password, &dir.display().to_string()))?;
    let mut command = Command::new(program);
    command.arg(folder.path().join("redis.conf")).current_dir(&dir);
    let mut server = Server::start("redis-server", command, "TERM", &folder.path().join("redis.log"))?;
    let url = format!("redis://:{password}@127.0.0.1:{port}");
    let serving = tokio::select! {
        error = server.ended() => Err(error),
        serving = serves(&url) => serving,
    };
    match serving {
        Ok(()) => Ok((url, server)),
        Err(error) => {
            server.stop().await;
            Err(error)
        }
    }
}

fn config(port: u16, password: &str, dir: &str) -> String {
    format!(
        "# Written by millstream dev at each start.\n\
         bind 127.0.0.1\nport {port}\nrequirepass {password}\ndir \"{dir}\"\npidfile \"{dir}/server.pid\"\n\
         daemonize no\nappendonly yes\nappendfsync always\nsave \"\"\nmaxmemory-policy noeviction"
    )
}

async fn serves(url: &str) -> Result<()> {
    let settings = RedisSettings { url: Secret::new(url), connect_timeout: Span::secs(2), ..RedisSettings::default() };
    let begin = Instant::now();
    loop {
        let answer = match Redis::connect(&settings).await {
            Ok(redis) => redis.ping().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(()) => return Ok(()),
            Err(error) if error.is_retryable() && begin.elapsed() < START_TIMEOUT => tokio::time::sleep(POLL).await,
            Err(error) => return Err(Error::new(Kind::Config, "wait for redis-server to serve").caused_by(error)),
        }
    }
}
