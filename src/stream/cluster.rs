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
/// Wait before a call is tried again that a slot under way between two nodes refused.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Connections to the nodes, made when they are first needed.
pub(super) struct Cluster {
    topology: Arc<Topology>,
    settings: RedisSettings,
    timeout: Duration,
    links: Mutex<HashMap<Server, Arc<Link>>>,
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
        if let Some(link) = links.get(node) {
            return Ok(link.clone());
        }
        // Those that are none of the cluster any more would try to connect for ever.
        let nodes = self.topology.masters();
        links.retain(|known, _| nodes.contains(known));
        let link = Link::begin(&self.settings, Some(node), self.timeout)
            .map_err(|error| fred::error::Error::new(fred::error::ErrorKind::Config, error.to_string()))?;
        let link = Arc::new(link);
        links.insert(node.clone(), link.clone());
        Ok(link)
    }
}
