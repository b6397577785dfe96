//! The connections to the nodes of a Redis Cluster, and the ways between them.
//!
//! **Invariant:** a call is sent to another node only after the one before has said that it did
//! nothing (`MOVED`, `ASK`, `TRYAGAIN`). A call without an answer is its caller's.
//!
//! # Design
//! fred has a client for clusters. Three things in it don't fit here (10.1): with one attempt per
//! command, which is what keeps it from sending unanswered ones twice, a `MOVED` fails and an `ASK`
//! ends the client for good; and while one node is away, the commands to all others wait. So each node
//! has a plain client here, and the way is found here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::types::config::Server;
use tokio::time::Instant;

use super::call::{Answer, Call};
use super::failure::{Elsewhere, elsewhere, is_doubtful};
use super::link::Link;
use super::topology::Topology;
use crate::config::RedisSettings;
use crate::error::Result;

/// How often a call is sent on to another node at most: two nodes may point at each other for a while.
const REDIRECTIONS_MAX: u32 = 16;
/// A connection to a node without slots is kept for so long after it was last asked for: one that is just taking
/// its first slots over is none of the masters yet.
const SPARED: Duration = Duration::from_secs(60);
/// Wait before a call is tried again that a slot under way between two nodes refused.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Connections to the nodes, made when they are first needed.
pub(super) struct Cluster {
    topology: Arc<Topology>,
    settings: RedisSettings,
    timeout: Duration,
    links: Mutex<Links<Link>>,
}

impl Cluster {
    pub(super) fn new(topology: Arc<Topology>, settings: &RedisSettings) -> Self {
        let timeout = *settings.command_timeout;
        Self { topology, settings: settings.clone(), timeout, links: Mutex::default() }
    }

    pub(super) fn topology(&self) -> &Arc<Topology> {
        &self.topology
    }

    /// Sends a call to the node that has its slot, following the nodes' directions.
    pub(super) async fn send(&self, call: Call) -> Result<Answer, fred::error::Error> {
        let until = Instant::now() + self.timeout;
        let slot = call.slot();
        let (mut node, mut asking) = (self.topology.node(slot), false);
        let mut redirections = 0;
        loop {
            let link = self.link(&node)?;
            let error = match Box::pin(link.send(call.clone(), asking)).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            redirections += 1;
            if redirections > REDIRECTIONS_MAX || Instant::now() > until {
                return Err(error);
            }
            (node, asking) = match elsewhere(&error, &node) {
                Some(Elsewhere::Moved(slot, to)) => {
                    self.topology.moved(slot, &to);
                    (to, false)
                }
                Some(Elsewhere::Ask(to)) => (to, true),
                Some(Elsewhere::Later) => {
                    tokio::time::sleep(TRY_AGAIN).await;
                    redirections -= 1;
                    (self.topology.node(slot), false)
                }
                None => {
                    if is_doubtful(&error) {
                        if slot.is_none() {
                            self.topology.skip();
                        }
                        self.topology.doubt();
                    }
                    return Err(error);
                }
            };
        }
    }

    /// The connection to a node, which may be still under way.
    fn link(&self, node: &Server) -> Result<Arc<Link>, fred::error::Error> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = || Link::begin(&self.settings, Some(node), self.timeout);
        links
            .get(node, Instant::now(), || self.topology.masters(), begin)
            .map_err(|error| fred::error::Error::new(fred::error::ErrorKind::Config, error.to_string()))
    }
}

/// Connections by node, each with when it was last asked for.
struct Links<L>(HashMap<Server, (Arc<L>, Instant)>);

impl<L> Default for Links<L> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<L> Links<L> {
    /// The connection to `node`; a new one takes the place of those to nodes that are none of the cluster any
    /// more, which would try to connect for ever.
    fn get(
        &mut self,
        node: &Server,
        now: Instant,
        masters: impl FnOnce() -> Vec<Server>,
        begin: impl FnOnce() -> Result<L>,
    ) -> Result<Arc<L>> {
        if let Some((link, asked)) = self.0.get_mut(node) {
            *asked = now;
            return Ok(link.clone());
        }
        let masters = masters();
        self.0.retain(|known, (_, asked)| masters.contains(known) || now.duration_since(*asked) < SPARED);
        let link = Arc::new(begin()?);
        self.0.insert(node.clone(), (link.clone(), now));
        Ok(link)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Two empty nodes that took slots over at the same time were asked in turn, and each call to one ended the
    /// connection to the other: only masters were spared.
    #[test]
    fn nodes_without_slots_keep_their_connections_while_they_are_asked() {
        let node = |port| Server::new("127.0.0.1", port);
        let (mut links, begun, begin) = (Links::<u16>::default(), Cell::new(0), Instant::now());
        let mut ask = |port: u16, s: u64| {
            let make = || {
                begun.set(begun.get() + 1);
                Ok(port)
            };
            let link = links.get(&node(port), begin + Duration::from_secs(s), || vec![node(1)], make).unwrap();
            assert_eq!(*link, port);
            links.0.len()
        };
        ask(1, 0);
        for s in 0..100 {
            ask(2, s);
            ask(3, s);
        }
        assert_eq!(begun.get(), 3);
        // What nobody asks for any more goes with the next new connection, a master's stays.
        assert_eq!((ask(4, 159), begun.get()), (2, 4));
    }
}
