//! One connection to one server.
//!
//! # Design
//! fred's defaults would hang for ever after a broken connection (no policy) or send commands in
//! flight a second time (three attempts), so both are set here: reconnect for ever, one attempt,
//! a time-out on every command. `fail_fast` is no bound; the time-out is.

use std::time::Duration;

use fred::prelude::{
    Builder, Client, ClientLike, Config, ConnectionConfig, EventInterface, PerformanceConfig, ReconnectPolicy,
    TcpConfig,
};
use fred::types::config::{Server, ServerConfig, UnresponsiveConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::broadcast::{self, error::TryRecvError};
use tracing::{debug, warn};

use super::call::{Answer, Call};
use super::failure::failed;
use crate::config::RedisSettings;
use crate::error::{Error, Kind, Result};

/// First and longest wait between attempts to connect, in milliseconds.
const RECONNECT_MS: (u32, u32) = (50, 1_000);
/// Milliseconds that WAIT waits at most: the command time-out is above it, and the caller asks again.
const WAIT_MS_MAX: u64 = 500;

/// A connection to a server, renewed for ever until it is dropped.
pub(super) struct Link {
    client: Client,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

/// Hears of a connection's breaks. fred tells of one before it connects again, so before anything is read over the next.
pub(super) struct Breaks {
    errors: broadcast::Receiver<(fred::error::Error, Option<Server>)>,
    reconnects: broadcast::Receiver<Server>,
}

impl Breaks {
    /// Whether there was one since this was last asked.
    pub(super) fn any(&mut self) -> bool {
        let mut heard = false;
        while !matches!(self.errors.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
            heard = true;
        }
        while !matches!(self.reconnects.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {
            heard = true;
        }
        heard
    }
}

impl Link {
    /// Begins to connect; what is sent meanwhile waits, its time-out long at most. To the server of the
    /// settings, or to this node of their cluster.
    pub(super) fn begin(settings: &RedisSettings, node: Option<&Server>, timeout: Duration) -> Result<Self> {
        Ok(Self::connect(builder(settings, node, timeout)?.build().map_err(unprepared)?))
    }

    /// As [`Link::begin`], and waits until the connection is there.
    pub(super) async fn open(settings: &RedisSettings, timeout: Duration) -> Result<Self> {
        let link = Self::begin(settings, None, timeout)?;
        link.wait(*settings.connect_timeout).await?;
        Ok(link)
    }

    /// One more connection to a Redis that was there before. If it has gone away since, the connection is
    /// made when it is back, as after any other loss.
    pub(super) async fn open_again(settings: &RedisSettings, timeout: Duration) -> Result<Self> {
        let link = Self::begin(settings, None, timeout)?;
        if let Err(error) = link.wait(*settings.connect_timeout).await {
            warn!(%error, "Redis has gone away, connecting when it is back");
        }
        Ok(link)
    }

    /// A connection that is given up as soon as something fails, to look at a node.
    pub(super) async fn probe(settings: &RedisSettings, node: &Server) -> Result<Self> {
        let timeout = *settings.command_timeout;
        let mut config = config(settings, Some(node))?;
        config.fail_fast = true;
        let mut builder = Builder::from_config(config);
        builder.set_connection_config(connection(settings, timeout)).set_performance_config(performance(timeout));
        let link = Self::connect(builder.build().map_err(unprepared)?);
        link.wait(timeout).await?;
        Ok(link)
    }

    fn connect(client: Client) -> Self {
        let errors = client.on_error(|(error, _server)| async move {
            debug!(%error, "lost a connection to Redis");
            Ok(())
        });
        let connecting = client.connect();
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connecting.await;
            errors.abort();
        }));
        Self { client, _task: task }
    }

    async fn wait(&self, within: Duration) -> Result<()> {
        match tokio::time::timeout(within, self.client.wait_for_connect()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed("connect to Redis", error)),
            Err(_) => Err(Error::new(Kind::RedisUnavailable, "connect to Redis: no answer in time")),
        }
    }

    /// Hears of breaks from now on.
    pub(super) fn breaks(&self) -> Breaks {
        Breaks { errors: self.client.error_rx(), reconnects: self.client.reconnect_rx() }
    }

    /// fred's client of it.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a call; `asking`: to a node that is still taking the slot over.
    ///
    /// What belongs together goes out together: WAIT over the connection of its write, or not at all,
    /// because another server would answer for writes that it has never seen.
    pub(super) async fn send(&self, call: Call, asking: bool) -> Result<Answer, fred::error::Error> {
        if !asking && call.replicas.is_none() {
            let value = self.client.custom::<Value, _>(custom(call.name), call.args).await?;
            return Ok(Answer { value, replicas: None });
        }
        let pipeline = self.client.pipeline();
        if asking {
            let _queued: Value = pipeline.custom(custom("ASKING"), Vec::<Value>::new()).await?;
        }
        let _queued: Value = pipeline.custom(custom(call.name), call.args).await?;
        if let Some((replicas, within)) = call.replicas {
            let ms = u64::try_from(within.as_millis()).unwrap_or(WAIT_MS_MAX).min(WAIT_MS_MAX);
            let _queued: Value = pipeline.custom(custom("WAIT"), vec![replicas.to_string(), ms.to_string()]).await?;
        }
        let mut answers = pipeline.try_all::<Value>().await.into_iter();
        // One error alone is that of the whole.
        let mut next = || answers.next().unwrap_or_else(|| Err(lost()));
        if asking {
            let _asked = next()?;
        }
        let value = next()?;
        let replicas = match call.replicas {
            // An error of WAIT says nothing of the write before it.
            Some(_) => Some(next().and_then(Value::convert::<u32>).map_err(unclear)?),
            None => None,
        };
        Ok(Answer { value, replicas })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Saying goodbye waits for the socket; nobody waits for that, and the runtime ends it if it must.
            runtime.spawn(async move { client.quit().await });
        }
    }
}

fn custom(name: &'static str) -> CustomCommand {
    CustomCommand::new_static(name, ClusterHash::FirstKey, false)
}

fn lost() -> fred::error::Error {
    fred::error::Error::new(fred::error::ErrorKind::Canceled, "no answer to a part of a call")
}

fn unclear(error: fred::error::Error) -> fred::error::Error {
    fred::error::Error::new(fred::error::ErrorKind::IO, format!("wait for replicas: {error}"))
}

fn unprepared(error: fred::error::Error) -> Error {
    Error::new(Kind::Config, "prepare the connection to Redis").caused_by(error)
}

/// How connections are made: to the server of the settings, or to this node of their cluster.
pub(super) fn builder(settings: &RedisSettings, node: Option<&Server>, timeout: Duration) -> Result<Builder> {
    let mut builder = Builder::from_config(config(settings, node)?);
    builder
        .set_connection_config(connection(settings, timeout))
        .set_performance_config(performance(timeout))
        .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2));
    Ok(builder)
}

/// The nodes that the settings name, if they say that there is a cluster.
pub(super) fn cluster_nodes(settings: &RedisSettings) -> Result<Option<Vec<Server>>> {
    let server = config(settings, None)?.server;
    Ok(server.is_clustered().then(|| server.hosts()))
}

/// The connection that the settings describe, or that to this node of their cluster.
pub(super) fn config(settings: &RedisSettings, node: Option<&Server>) -> Result<Config> {
    let config = Config::from_url(&with_nodes(settings.url.expose()))
        .map_err(|e| Error::new(Kind::Config, "read redis.url (redis://host:port expected)").caused_by(e))?;
    let server = match node {
        Some(node) => ServerConfig::Centralized { server: node.clone() },
        None => config.server,
    };
    Ok(Config { fail_fast: false, server, ..config })
}

/// fred takes the further nodes of a cluster as `?node=host:port`; `host:port,host:port` is shorter.
fn with_nodes(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| scheme.ends_with("-cluster")) else {
        return url.to_owned();
    };
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (user, hosts) = authority.rsplit_once('@').map_or(("", authority), |(user, hosts)| (user, hosts));
    let mut hosts = hosts.split(',').filter(|host| !host.is_empty());
    let mut url =
        format!("{scheme}://{user}{}{}{tail}", if user.is_empty() { "" } else { "@" }, hosts.next().unwrap_or(""));
    for host in hosts {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str("node=");
        url.push_str(host);
    }
    url
}

fn connection(settings: &RedisSettings, timeout: Duration) -> ConnectionConfig {
    ConnectionConfig {
        connection_timeout: *settings.connect_timeout,
        internal_command_timeout: *settings.connect_timeout,
        max_command_attempts: 1,
        auto_client_setname: false,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig { max_timeout: Some(timeout * 3), interval: Duration::from_millis(500) },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    }
}

fn performance(timeout: Duration) -> PerformanceConfig {
    PerformanceConfig { default_command_timeout: timeout, ..PerformanceConfig::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_nodes_are_given_either_way() {
        let nodes = |url: &str| {
            let settings = RedisSettings { url: crate::config::Secret::new(url), ..RedisSettings::default() };
            let mut nodes: Vec<String> =
                cluster_nodes(&settings).unwrap().unwrap_or_default().iter().map(ToString::to_string).collect();
            nodes.sort();
            nodes
        };
        assert_eq!(nodes("redis-cluster://me:p,s@a:1,b:2,c:3"), ["a:1", "b:2", "c:3"]);
        assert_eq!(nodes("redis-cluster://a:1?node=b:2&node=c:3"), ["a:1", "b:2", "c:3"]);
        assert_eq!(nodes("rediss-cluster://a:1,b:2/?node=c:3"), ["a:1", "b:2", "c:3"]);
        assert!(nodes("redis://a:1").is_empty());
    }
}
