//! The door itself: connections that are shared, and those that block.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::prelude::Client;
use fred::types::Value;
use fred::types::config::Server;
use futures_util::future::BoxFuture;

use super::call::{Answer, Call, slot_of};
use super::cluster::Cluster;
use super::failure::{Elsewhere, elsewhere, failed, is_doubtful};
use super::link::{Breaks, Link, builder, cluster_nodes, config};
use super::scan::Scans;
use super::topology::Topology;
use super::{Keys, Reply};
use crate::config::RedisSettings;
use crate::error::{Error, Kind, Result};

/// Extra time that a blocking read gets beyond its own BLOCK before it counts as lost.
pub(super) const BLOCK_SLACK: Duration = Duration::from_secs(1);
/// Wait before a stream is looked for anew that is moving to another node.
const MOVING: Duration = Duration::from_millis(20);

/// A shared, pipelining connection to Redis, or to each node of a Redis Cluster. Cheap to clone.
///
/// Nothing that blocks goes over it: see [`Redis::reader`].
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    way: Way,
    settings: RedisSettings,
    keys: Keys,
    scans: Scans,
}

enum Way {
    One(Link),
    Cluster(Cluster),
}

/// A connection of its own for one blocking reader.
///
/// It takes `&mut self` to read, so that nothing can queue behind a blocked command. In a cluster it
/// goes to the node that has the stream, and to another when the stream moves: a reader reads one
/// partition there ([`Redis::is_cluster`]).
pub struct Reader {
    redis: Redis,
    timeout: Duration,
    link: Option<Arc<Link>>,
    node: Option<Server>,
    waker: Waker,
    /// Nothing in a cluster.
    breaks: Option<Breaks>,
}

/// Ends a blocked read early, from elsewhere.
#[derive(Clone)]
pub struct Waker {
    client: Arc<Mutex<Option<Client>>>,
}

impl Redis {
    /// Connects; the connection is renewed for ever afterwards.
    ///
    /// # Errors
    /// [`Kind::Config`] if the URL can't be read; [`Kind::RedisUnavailable`] if nothing answers
    /// within `redis.connect_timeout`.
    pub async fn connect(settings: &RedisSettings) -> Result<Self> {
        let way = match cluster_nodes(settings)? {
            Some(nodes) => Way::Cluster(Cluster::new(Box::pin(Topology::find(settings, nodes)).await?, settings)),
            None => Way::One(Box::pin(Link::open(settings, *settings.command_timeout)).await?),
        };
        Self::over(way, settings)
    }

    /// Another connection of the same kind, so that two kinds of work don't queue behind each other. If
    /// Redis has gone away meanwhile, it is made when that is back.
    ///
    /// # Errors
    /// [`Kind::Config`] if the URL can't be read.
    pub async fn another(&self) -> Result<Self> {
        let settings = &self.inner.settings;
        let way = match &self.inner.way {
            Way::Cluster(cluster) => Way::Cluster(Cluster::new(cluster.topology().clone(), settings)),
            Way::One(_) => Way::One(Box::pin(Link::open_again(settings, *settings.command_timeout)).await?),
        };
        Self::over(way, settings)
    }

    fn over(way: Way, settings: &RedisSettings) -> Result<Self> {
        let keys = Keys::new(&settings.prefix);
        let scans = Scans::new(config(settings, None)?, settings);
        Ok(Self { inner: Arc::new(Inner { way, settings: settings.clone(), keys, scans }) })
    }

    /// A connection of its own for one blocking reader whose reads block for `block` at most.
    ///
    /// # Errors
    /// As [`Redis::another`].
    pub async fn reader(&self, block: Duration) -> Result<Reader> {
        let timeout = block + BLOCK_SLACK;
        let link = match &self.inner.way {
            Way::One(_) => Some(Arc::new(Box::pin(Link::open_again(&self.inner.settings, timeout)).await?)),
            Way::Cluster(_) => None,
        };
        let client = link.as_ref().map(|link| link.client().clone());
        let waker = Waker { client: Arc::new(Mutex::new(client)) };
        let breaks = link.as_ref().map(|link| link.breaks());
        Ok(Reader { redis: self.clone(), timeout, link, node: None, waker, breaks })
    }

    /// Whether this is a Redis Cluster, where one read takes in one partition: streams of different
    /// slots can't be read together, even on one node.
    pub fn is_cluster(&self) -> bool {
        self.topology().is_some()
    }

    /// How many nodes of a cluster have slots now; nothing if this is none.
    pub fn masters(&self) -> Option<usize> {
        Some(self.topology()?.masters().len())
    }

    /// The node of a cluster that has a key, as far as is known.
    pub fn node_of(&self, key: &str) -> Option<String> {
        Some(self.topology()?.node(Some(slot_of(key.as_bytes()))).to_string())
    }

    /// The names of the keys.
    pub fn keys(&self) -> &Keys {
        &self.inner.keys
    }

    /// A round trip; in a cluster to one of its nodes.
    ///
    /// # Errors
    /// [`Kind::RedisUnavailable`] without an answer.
    pub async fn ping(&self) -> Result<()> {
        self.command("PING", Vec::<&str>::new()).await.map(|_| ())
    }

    /// Any command whose first argument is its key, or that has none.
    ///
    /// # Errors
    /// As Redis answers; see [`Kind`].
    pub async fn command<A>(&self, name: &'static str, args: Vec<A>) -> Result<Reply>
    where
        A: TryInto<Value> + Send,
        A::Error: Into<fred::error::Error> + Send,
    {
        let answer = self.send(Call::new(name, args)?).await.map_err(|e| failed(name, e))?;
        Ok(Reply::from_fred(answer.value))
    }

    /// Sends a call where it belongs. Boxed: every future above would carry it.
    pub(super) fn send(&self, call: Call) -> BoxFuture<'_, Result<Answer, fred::error::Error>> {
        match &self.inner.way {
            Way::One(link) => Box::pin(link.send(call, false)),
            Way::Cluster(cluster) => Box::pin(cluster.send(call)),
        }
    }

    /// Each server by itself, with its name: the nodes of a cluster that have slots and their replicas, or
    /// the one server there is, without a name. Only for what has no key: of a key, a node may say that it
    /// is elsewhere.
    pub async fn servers(&self) -> Vec<(String, Result<Self>)> {
        let Some(topology) = self.topology() else { return vec![(String::new(), Ok(self.clone()))] };
        let settings = &self.inner.settings;
        let opening = topology.nodes().into_iter().map(|node| async move {
            let link = Box::pin(Link::probe(settings, &node)).await;
            (node.to_string(), link.and_then(|link| Self::over(Way::One(link), settings)))
        });
        futures_util::future::join_all(opening).await
    }

    /// A client for channels, not yet connected: to any node of a cluster, each time to another.
    pub(super) fn subscriber(&self) -> Result<fred::clients::SubscriberClient> {
        let prepare = |e| Error::new(Kind::Config, "prepare the connection to Redis").caused_by(e);
        let settings = &self.inner.settings;
        let node = self.topology().map(|topology| topology.any_node());
        builder(settings, node.as_ref(), *settings.command_timeout)?.build_subscriber_client().map_err(prepare)
    }

    pub(super) fn settings(&self) -> &RedisSettings {
        &self.inner.settings
    }

    pub(super) fn scans(&self) -> &Scans {
        &self.inner.scans
    }

    fn topology(&self) -> Option<&Arc<Topology>> {
        match &self.inner.way {
            Way::Cluster(cluster) => Some(cluster.topology()),
            Way::One(_) => None,
        }
    }
}

impl Reader {
    /// What ends a blocked read early.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Whether its connection was lost since this was last asked, also between two reads: what it reads after that may
    /// be another server's. Yes in a cluster, where nobody keeps count.
    pub fn has_broken(&mut self) -> bool {
        self.breaks.as_mut().is_none_or(Breaks::any)
    }

    /// Reads streams of one partition (without a cluster: of several) with `read`, which blocks; or with
    /// `instead`, which doesn't, where the stream is just moving.
    pub(super) async fn read_streams(
        &mut self,
        instead: Call,
        read: impl AsyncFnOnce(Client) -> Result<Value, fred::error::Error>,
    ) -> Result<Value, fred::error::Error> {
        let redis = self.redis.clone();
        let Some(topology) = redis.topology() else {
            return match &self.link {
                Some(link) => Box::pin(read(link.client().clone())).await,
                None => Err(fred::error::Error::new(fred::error::ErrorKind::Config, "a reader without a connection")),
            };
        };
        let node = topology.node(instead.slot());
        let client = self.client_at(&node)?;
        let error = match Box::pin(read(client)).await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match elsewhere(&error, &node) {
            Some(Elsewhere::Moved(slot, to)) => {
                topology.moved(slot, &to);
                tokio::time::sleep(MOVING).await;
                Ok(Value::Null)
            }
            Some(Elsewhere::Ask(_) | Elsewhere::Later) => {
                let answer = self.redis.send(instead).await?;
                if answer.value.is_null() {
                    tokio::time::sleep(MOVING).await;
                }
                Ok(answer.value)
            }
            None => {
                if is_doubtful(&error) {
                    topology.doubt();
                }
                Err(error)
            }
        }
    }

    fn client_at(&mut self, node: &Server) -> Result<Client, fred::error::Error> {
        if let Some(link) = self.link.as_ref().filter(|_| self.node.as_ref() == Some(node)) {
            return Ok(link.client().clone());
        }
        let link = Link::begin(&self.redis.inner.settings, Some(node), self.timeout)
            .map_err(|error| fred::error::Error::new(fred::error::ErrorKind::Config, error.to_string()))?;
        let client = link.client().clone();
        *self.waker.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
        (self.link, self.node) = (Some(Arc::new(link)), Some(node.clone()));
        Ok(client)
    }
}

impl Waker {
    /// Ends the read that the [`Reader`] is blocked in, as if its time were up.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn unblock(&self) -> Result<()> {
        use fred::interfaces::ClientInterface as _;
        use fred::types::ClientUnblockFlag;
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client else { return Ok(()) };
        client.unblock_self(Some(ClientUnblockFlag::Timeout)).await.map_err(|e| failed("unblock a reader", e))
    }
}
