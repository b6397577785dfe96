//! Connections, and what Redis' errors mean.
//!
//! # Design
//! fred's defaults would hang for ever after a broken connection (no policy) or send commands in
//! flight a second time (three attempts), so both are set here: reconnect for ever, one attempt,
//! a time-out on every command. `fail_fast` is no bound; the time-out is.

use std::sync::Arc;
use std::time::Duration;

use fred::prelude::{
    Builder, Client, ClientLike, Config, ConnectionConfig, EventInterface, PerformanceConfig, ReconnectPolicy,
    TcpConfig,
};
use fred::types::Value;
use fred::types::config::UnresponsiveConfig;
use fred::types::{ClusterHash, CustomCommand};
use tracing::debug;

use super::{Keys, Reply};
use crate::config::RedisSettings;
use crate::error::{Error, Kind, Result};
use crate::telemetry::names;

/// Extra time that a blocking read gets beyond its own BLOCK before it counts as lost.
const BLOCK_SLACK: Duration = Duration::from_secs(1);
/// First and longest wait between attempts to connect, in milliseconds.
const RECONNECT_MS: (u32, u32) = (50, 1_000);

/// A shared, pipelining connection to Redis. Cheap to clone.
///
/// Nothing that blocks goes over it: see [`Redis::reader`].
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    settings: RedisSettings,
    keys: Keys,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

/// A connection of its own for one blocking reader.
///
/// It takes `&mut self` to read, so that nothing can queue behind a blocked command.
pub struct Reader {
    redis: Redis,
}

impl Redis {
    /// Connects; the connection is renewed for ever afterwards.
    ///
    /// # Errors
    /// [`Kind::Config`] if the URL can't be read; [`Kind::RedisUnavailable`] if nothing answers
    /// within `redis.connect_timeout`.
    pub async fn connect(settings: &RedisSettings) -> Result<Self> {
        Self::open(settings, *settings.command_timeout).await
    }

    /// Another connection of the same kind, so that two kinds of work don't queue behind each other.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn another(&self) -> Result<Self> {
        Self::connect(&self.inner.settings).await
    }

    /// A connection of its own for one blocking reader whose reads block for `block` at most.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn reader(&self, block: Duration) -> Result<Reader> {
        let redis = Self::open(&self.inner.settings, block + BLOCK_SLACK).await?;
        Ok(Reader { redis })
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// A round trip.
    ///
    /// # Errors
    /// [`Kind::RedisUnavailable`] without an answer.
    pub async fn ping(&self) -> Result<()> {
        self.command("PING", Vec::<&str>::new()).await.map(|_| ())
    }

    pub(super) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Any command whose first argument is its key.
    ///
    /// # Errors
    /// As Redis answers; see [`Kind`].
    pub async fn command<A>(&self, name: &'static str, args: Vec<A>) -> Result<Reply>
    where
        A: TryInto<Value> + Send,
        A::Error: Into<fred::error::Error> + Send,
    {
        use fred::interfaces::ClientLike as _;
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        // Boxed: fred's future is 20 KB, which every future above it would carry.
        let value: Value = Box::pin(self.client().custom(command, args)).await.map_err(|e| failed(name, e))?;
        Ok(Reply::from_fred(value))
    }

    /// A client for channels, not yet connected.
    pub(super) fn subscriber(&self) -> Result<fred::clients::SubscriberClient> {
        let prepare = |e| Error::new(Kind::Config, "prepare the connection to Redis").caused_by(e);
        let settings = &self.inner.settings;
        builder(settings, *settings.command_timeout)?.build_subscriber_client().map_err(prepare)
    }

    async fn open(settings: &RedisSettings, command_timeout: Duration) -> Result<Self> {
        let prepare = |e| Error::new(Kind::Config, "prepare the connection to Redis").caused_by(e);
        let client = builder(settings, command_timeout)?.build().map_err(prepare)?;
        let keys = Keys::new(&settings.prefix);
        let errors = client.on_error(|(error, _server)| async move {
            debug!(%error, "lost a connection to Redis");
            Ok(())
        });
        let connecting = client.connect();
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connecting.await;
            errors.abort();
        }));
        match tokio::time::timeout(*settings.connect_timeout, client.wait_for_connect()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed("connect to Redis", error)),
            Err(_) => return Err(Error::new(Kind::RedisUnavailable, "connect to Redis: no answer in time")),
        }
        let inner = Inner { client, settings: settings.clone(), keys, _task: task };
        Ok(Self { inner: Arc::new(inner) })
    }
}

impl Reader {
    /// The connection, for one command at a time.
    pub(super) fn client(&mut self) -> &Client {
        self.redis.client()
    }

    /// A handle that ends a blocked read early, from elsewhere.
    pub fn waker(&self) -> Redis {
        self.redis.clone()
    }
}

impl Redis {
    /// Ends the read that the [`Reader`] of this [`Reader::waker`] is blocked in, as if its time were up.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn unblock(&self) -> Result<()> {
        use fred::interfaces::ClientInterface as _;
        use fred::types::ClientUnblockFlag;
        self.client().unblock_self(Some(ClientUnblockFlag::Timeout)).await.map_err(|e| failed("unblock a reader", e))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Saying goodbye waits for the socket; nobody waits for that, and the runtime ends it if it must.
            runtime.spawn(async move { client.quit().await });
        }
    }
}

fn builder(settings: &RedisSettings, command_timeout: Duration) -> Result<Builder> {
    let config = Config::from_url(settings.url.expose())
        .map_err(|e| Error::new(Kind::Config, "read redis.url (redis://host:port expected)").caused_by(e))?;
    let config = Config { fail_fast: false, ..config };
    let connection = ConnectionConfig {
        connection_timeout: *settings.connect_timeout,
        internal_command_timeout: *settings.connect_timeout,
        max_command_attempts: 1,
        auto_client_setname: false,
        reconnect_on_auth_error: true,
        unresponsive: UnresponsiveConfig {
            max_timeout: Some(command_timeout * 3),
            interval: Duration::from_millis(500),
        },
        tcp: TcpConfig { nodelay: Some(true), ..TcpConfig::default() },
        ..ConnectionConfig::default()
    };
    let performance = PerformanceConfig { default_command_timeout: command_timeout, ..PerformanceConfig::default() };
    let mut builder = Builder::from_config(config);
    builder
        .set_connection_config(connection)
        .set_performance_config(performance)
        .set_policy(ReconnectPolicy::new_exponential(0, RECONNECT_MS.0, RECONNECT_MS.1, 2));
    Ok(builder)
}

/// What an error of Redis or of the connection means. The only place that reads Redis' words.
/// Source: the error table of `redis.io/docs` per command, and Redis' `shared` error strings.
pub(super) fn failed(doing: &str, error: fred::error::Error) -> Error {
    use fred::error::ErrorKind;
    let details = error.details();
    let kind = match details.split([' ', ':']).next().unwrap_or_default() {
        "NOGROUP" => Kind::NoGroup,
        "NOTINIT" => Kind::NotInitialised,
        "OOM" | "READONLY" | "LOADING" | "MISCONF" | "NOREPLICAS" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN"
        | "MASTERDOWN" | "MOVED" | "ASK" | "NOSCRIPT" | "UNBLOCKED" => Kind::RedisRefused,
        "WRONGTYPE" | "NOPERM" | "NOAUTH" | "WRONGPASS" | "ERR" | "BUSYGROUP" => Kind::RedisRejected,
        _ => match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Cluster
            | ErrorKind::Routing
            | ErrorKind::Protocol
            | ErrorKind::Unknown => Kind::RedisUnavailable,
            ErrorKind::Url | ErrorKind::Config | ErrorKind::Tls => Kind::Config,
            _ => Kind::RedisRejected,
        },
    };
    metrics::counter!(names::REDIS_ERRORS, "kind" => format!("{kind:?}")).increment(1);
    Error::new(kind, doing.to_owned()).caused_by(error)
}
