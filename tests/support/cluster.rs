//! A real Redis Cluster: three masters, and a replica of each if the test wants them.

use super::{Redis, Reply, wait_until};

/// A cluster's slots.
const SLOTS: u16 = 16_384;
/// How a node is started; a master counts as gone soon.
const OPTIONS: &[&str] = &[
    "--cluster-enabled",
    "yes",
    "--cluster-config-file",
    "nodes.conf",
    "--cluster-node-timeout",
    "1500",
    "--cluster-replica-validity-factor",
    "0",
    "--repl-diskless-sync-delay",
    "0",
];

/// Masters that share the slots, `SLOTS / MASTERS` in a row each; after them a replica of each.
pub struct Cluster {
    nodes: Vec<Redis>,
}

impl Cluster {
    /// How many masters there are.
    pub const MASTERS: usize = 3;

    /// Starts the nodes and waits until all of them say that the cluster is well.
    pub async fn start(replicas: bool) -> Self {
        Self::start_with(replicas, &[]).await
    }

    /// As [`Cluster::start`], each node with these options too.
    pub async fn start_with(replicas: bool, options: &[&str]) -> Self {
        let options: Vec<&str> = OPTIONS.iter().chain(options).copied().collect();
        let count = if replicas { 2 * Self::MASTERS } else { Self::MASTERS };
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(Redis::start(&options).await);
        }
        let cluster = Self { nodes };
        for (n, node) in cluster.nodes.iter().enumerate() {
            cluster.ok(n, &["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]).await;
            if n < Self::MASTERS {
                let bound = |n: usize| usize::from(SLOTS) * n / Self::MASTERS;
                let (first, last) = (bound(n).to_string(), (bound(n + 1) - 1).to_string());
                cluster.ok(n, &["CLUSTER", "ADDSLOTSRANGE", &first, &last]).await;
            }
            cluster.ok(0, &["CLUSTER", "MEET", "127.0.0.1", &node.port().to_string()]).await;
        }
        let all = format!("cluster_known_nodes:{count}");
        wait_until("the nodes know each other", async || cluster.all_say(&["CLUSTER", "INFO"], &[&all]).await).await;
        for replica in Self::MASTERS..count {
            let master = cluster.id(replica - Self::MASTERS).await;
            cluster.ok(replica, &["CLUSTER", "REPLICATE", &master]).await;
        }
        for replica in Self::MASTERS..count {
            cluster.follows(replica).await;
        }
        cluster.is_well().await;
        wait_until("each node knows every node's part", async || cluster.all_tell(count / Self::MASTERS).await).await;
        cluster
    }

    /// `redis-cluster://…`, with two of the nodes: the others are found.
    pub fn url(&self) -> String {
        format!("redis-cluster://{},{}", self.nodes[0].addr(), self.nodes[1].addr())
    }

    /// A node: masters first, then the replica of each.
    pub fn node(&self, n: usize) -> &Redis {
        &self.nodes[n]
    }

    /// The first node, to speak with: a door to all keys, for a [`Stack`](super::Stack).
    pub fn door(&self) -> Redis {
        Redis::at(self.nodes[0].port())
    }

    /// Waits until every node that answers calls the cluster well.
    pub async fn is_well(&self) {
        wait_until("the cluster is well", async || self.all_say(&["CLUSTER", "INFO"], &["cluster_state:ok"]).await)
            .await;
    }

    /// Waits until a node is a replica that has what its master has.
    pub async fn follows(&self, n: usize) {
        let wanted = ["role:slave", "master_link_status:up"];
        wait_until("it follows its master", async || self.says(n, &["INFO", "replication"], &wanted).await).await;
    }

    /// A replica hears no more of its master, and doesn't come back to it.
    pub async fn cut_off(&self, n: usize) {
        for (key, value) in [("masteruser", "nobody"), ("masterauth", "wrong")] {
            self.ok(n, &["CONFIG", "SET", key, value]).await;
        }
        let killed = self.nodes[n - Self::MASTERS].command(["CLIENT", "KILL", "TYPE", "replica"]).await;
        assert!(!killed.is_error(), "{killed:?}");
        let down = ["master_link_status:down"];
        wait_until("it is cut off", async || self.says(n, &["INFO", "replication"], &down).await).await;
    }

    /// Waits until a node is a master.
    pub async fn leads(&self, n: usize) {
        wait_until("it is promoted", async || self.says(n, &["INFO", "replication"], &["role:master"]).await).await;
    }

    /// Begins to move a slot between two masters: its keys that end as one of `first` go at once.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize, first: &[&str]) {
        let slot = slot.to_string();
        self.ok(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from).await]).await;
        self.ok(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to).await]).await;
        let mut keys = self.keys_in(&slot, from).await;
        keys.retain(|key| first.iter().any(|end| key.ends_with(end)));
        assert_eq!(keys.len(), first.len(), "{keys:?} of {first:?}");
        self.migrate(from, to, &keys).await;
    }

    /// Moves the rest of the slot, and tells everybody where it is now.
    pub async fn finish_moving(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        loop {
            let keys = self.keys_in(&slot, from).await;
            if keys.is_empty() {
                break;
            }
            self.migrate(from, to, &keys).await;
        }
        for node in [to, from].into_iter().chain((0..Self::MASTERS).filter(|n| ![to, from].contains(n))) {
            self.ok(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &self.id(to).await]).await;
        }
    }

    async fn keys_in(&self, slot: &str, node: usize) -> Vec<String> {
        let keys = self.nodes[node].command(["CLUSTER", "GETKEYSINSLOT", slot, "100"]).await.list();
        keys.iter().map(Reply::text).collect()
    }

    async fn migrate(&self, from: usize, to: usize, keys: &[String]) {
        let port = self.nodes[to].port().to_string();
        let mut args = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        args.extend(keys.iter().map(String::as_str));
        self.ok(from, &args).await;
    }

    async fn id(&self, n: usize) -> String {
        self.nodes[n].command(["CLUSTER", "MYID"]).await.text()
    }

    async fn ok(&self, n: usize, command: &[&str]) {
        let reply = self.nodes[n].command(command).await;
        assert!(!reply.is_error(), "node {n}, {command:?}: {reply:?}");
    }

    async fn says(&self, n: usize, command: &[&str], wanted: &[&str]) -> bool {
        match self.nodes[n].try_command(command).await {
            Ok(reply) if !reply.is_error() => {
                let text = reply.text();
                wanted.iter().all(|wanted| text.lines().any(|line| line.trim() == *wanted))
            }
            _ => false,
        }
    }

    /// Whether every node tells of so many nodes for each range of slots.
    async fn all_tell(&self, nodes: usize) -> bool {
        for node in &self.nodes {
            let ranges = node.command(["CLUSTER", "SLOTS"]).await.list();
            if ranges.len() != Self::MASTERS || ranges.into_iter().any(|range| range.list().len() != 2 + nodes) {
                return false;
            }
        }
        true
    }

    async fn all_say(&self, command: &[&str], wanted: &[&str]) -> bool {
        for n in 0..self.nodes.len() {
            if !self.says(n, command, wanted).await {
                return false;
            }
        }
        true
    }
}
