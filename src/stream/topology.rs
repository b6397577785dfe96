//! Which node of a Redis Cluster has which slots.
//!
//! One per process: every connection of it asks here. Where a node says `MOVED`, its word counts at
//! once; everything else is looked up anew as soon as somebody is in doubt, and now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use fred::types::config::Server;
use tokio::sync::Notify;
use tracing::{debug, info};

use super::Reply;
use super::call::Call;
use super::failure::failed;
use super::link::Link;
use crate::config::RedisSettings;
use crate::error::{Error, Kind, Result};

/// How often the slots are looked up without a reason.
const LOOK: Duration = Duration::from_secs(10);
/// Wait between two looks at least.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a cluster.
pub(super) struct Topology {
    state: Arc<State>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

struct State {
    settings: RedisSettings,
    given: Vec<Server>,
    table: RwLock<Table>,
    doubts: Notify,
    /// Which master is asked what has no key.
    keyless: AtomicUsize,
    /// Another node is asked each time: one may be cut off from the others.
    turn: AtomicUsize,
}

/// The slots as a node told them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    ranges: Vec<Range>,
    /// What was learnt since, slot by slot.
    moved: HashMap<u16, Server>,
}

#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Server,
    replicas: Vec<Server>,
}

impl Topology {
    /// Finds the nodes by asking one of those that are `given`.
    ///
    /// # Errors
    /// [`Kind::RedisUnavailable`] if none answers within `redis.connect_timeout`.
    pub(super) async fn find(settings: &RedisSettings, given: Vec<Server>) -> Result<Arc<Self>> {
        let (table, doubts) = (RwLock::default(), Notify::new());
        let (keyless, turn) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let state = Arc::new(State { settings: settings.clone(), given, table, doubts, keyless, turn });
        let until = tokio::time::Instant::now() + *settings.connect_timeout;
        while let Err(error) = state.look().await {
            if tokio::time::Instant::now() + PAUSE > until {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
        let looking = state.clone();
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let _ = tokio::time::timeout(LOOK, looking.doubts.notified()).await;
                if let Err(error) = looking.look().await {
                    debug!(%error, "no node of the cluster tells where the slots are");
                }
                tokio::time::sleep(PAUSE).await;
            }
        }));
        Ok(Arc::new(Self { state, _task: task }))
    }

    /// The node that has a slot, or any.
    pub(super) fn node(&self, slot: Option<u16>) -> Server {
        let table = self.state.table.read().unwrap_or_else(PoisonError::into_inner);
        let known = slot.and_then(|slot| {
            let by_range = || table.ranges.iter().find(|range| (range.first..=range.last).contains(&slot));
            table.moved.get(&slot).or_else(|| by_range().map(|range| &range.master))
        });
        let any = || {
            let turn = self.state.keyless.load(Ordering::Relaxed) % table.ranges.len().max(1);
            table.ranges.get(turn).map(|range| &range.master).or(self.state.given.first())
        };
        known.or_else(any).cloned().unwrap_or_else(|| Server::new("127.0.0.1", 6379))
    }

    /// The nodes that have slots.
    pub(super) fn masters(&self) -> Vec<Server> {
        self.state.masters()
    }

    /// All nodes, replicas too.
    pub(super) fn nodes(&self) -> Vec<Server> {
        self.state.nodes()
    }

    /// Any node, each time another.
    pub(super) fn any_node(&self) -> Server {
        let nodes = self.nodes();
        let turn = self.state.turn.fetch_add(1, Ordering::Relaxed);
        nodes.get(turn % nodes.len().max(1)).cloned().unwrap_or_else(|| self.node(None))
    }

    /// A node has said where a slot is.
    pub(super) fn moved(&self, slot: u16, to: &Server) {
        self.state.table.write().unwrap_or_else(PoisonError::into_inner).moved.insert(slot, to.clone());
        self.doubt();
    }

    /// The node that was asked what has no key does not answer: the next one is asked from now on.
    pub(super) fn skip(&self) {
        self.state.keyless.fetch_add(1, Ordering::Relaxed);
    }

    /// Something does not fit: the nodes are asked again soon.
    pub(super) fn doubt(&self) {
        self.state.doubts.notify_one();
    }
}

impl State {
    fn masters(&self) -> Vec<Server> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        distinct(table.ranges.iter().map(|range| &range.master).chain(table.moved.values()))
    }

    fn nodes(&self) -> Vec<Server> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let masters = table.ranges.iter().map(|range| &range.master);
        distinct(masters.chain(table.ranges.iter().flat_map(|range| &range.replicas)))
    }

    /// Asks one node after the other until one tells.
    async fn look(&self) -> Result<()> {
        let mut nodes = self.nodes();
        nodes.extend(self.given.iter().filter(|given| !nodes.contains(given)).cloned().collect::<Vec<_>>());
        let first = self.turn.fetch_add(1, Ordering::Relaxed) % nodes.len().max(1);
        nodes.rotate_left(first);
        let mut failure = Error::new(Kind::Config, "find the nodes of the cluster: redis.url names none");
        for node in nodes {
            match self.ask(&node).await {
                Ok(ranges) => {
                    let table = Table { ranges, moved: HashMap::new() };
                    let mut known = self.table.write().unwrap_or_else(PoisonError::into_inner);
                    if *known != table {
                        info!(told_by = %node, "the slots of the cluster are at {}", table.summary());
                    }
                    *known = table;
                    return Ok(());
                }
                Err(error) => failure = error.context(&format!("ask {node} for the slots")),
            }
        }
        Err(failure)
    }

    async fn ask(&self, node: &Server) -> Result<Vec<Range>> {
        let link = Box::pin(Link::probe(&self.settings, node)).await?;
        let answer = Box::pin(link.send(Call::new("CLUSTER", vec!["SLOTS"])?, false)).await;
        let answer = Reply::from_fred(answer.map_err(|e| failed("read the slots of the cluster", e))?.value);
        let mut ranges = answer.list()?.into_iter().map(|range| read(range, node)).collect::<Result<Vec<_>>>()?;
        if ranges.is_empty() {
            return Err(Error::new(Kind::RedisUnavailable, "it knows of no slots"));
        }
        ranges.sort_by_key(|range| range.first);
        Ok(ranges)
    }
}

impl Table {
    fn summary(&self) -> String {
        let ranges = self.ranges.iter();
        ranges.map(|range| format!("{}–{} {}", range.first, range.last, range.master)).collect::<Vec<_>>().join(", ")
    }
}

/// Reads a range of CLUSTER SLOTS: first, last, master, replicas; a node is its address, port, id …
fn read(range: Reply, told_by: &Server) -> Result<Range> {
    let mut parts = range.list()?.into_iter();
    let mut slot = || {
        let number = parts.next().unwrap_or(Reply::Nil).int()?;
        u16::try_from(number).map_err(|_| Error::new(Kind::Corrupt, format!("read the slots: {number}")))
    };
    let (first, last) = (slot()?, slot()?);
    let mut nodes = parts.map(|node| server(node, told_by)).collect::<Result<Vec<_>>>()?.into_iter();
    let missing = || Error::new(Kind::Corrupt, "read the slots: a range without a node");
    Ok(Range { first, last, master: nodes.next().ok_or_else(missing)?, replicas: nodes.collect() })
}

fn server(node: Reply, told_by: &Server) -> Result<Server> {
    let parts = node.list()?;
    let part = |at: usize| parts.get(at).cloned().unwrap_or(Reply::Nil);
    let host = part(0);
    let host = match host.optional_text()? {
        // A node that doesn't know its own address.
        None | Some("" | "?") => told_by.host.to_string(),
        Some(host) => host.to_owned(),
    };
    let port = part(1).int()?;
    let port = u16::try_from(port).map_err(|_| Error::new(Kind::Corrupt, format!("read the slots: port {port}")))?;
    Ok(Server::new(host, port))
}

fn distinct<'a>(servers: impl Iterator<Item = &'a Server>) -> Vec<Server> {
    let mut found: Vec<Server> = servers.cloned().collect();
    found.sort();
    found.dedup();
    found
}
