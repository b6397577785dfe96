//! What is looked at, is looked at on every node.

use serde_json::Value;

use crate::builder;
use crate::support::{Cluster, Process, Receiver, Stack, eventually, millstream, wait_until};

/// Every node is looked at, replicas too: one may be the master tomorrow.
#[tokio::test]
async fn durability_is_checked_on_every_node() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(true).await;
    let stack = builder(&cluster, &receiver).edges(0).workers(&[]).start().await;
    cluster.node(4).command(["CONFIG", "SET", "appendfsync", "everysec"]).await;
    let mut env = stack.env().to_vec();
    for listen in ["MILLSTREAM__EDGE__LISTEN", "MILLSTREAM__METRICS__LISTEN"] {
        env.push((listen.into(), "127.0.0.1:0".into()));
    }
    let edge = Process::spawn("edge", &[], &env);
    let ended = eventually("it refuses to start", async || edge.try_status()).await;
    assert_eq!(ended.code(), Some(2), "{}", edge.stderr());
    let mends = format!("-h 127.0.0.1 -p {} CONFIG SET appendfsync always", cluster.node(4).port());
    assert!(edge.stderr().contains(&mends), "{}", edge.stderr());
    for n in [0, 1, 2, 3, 5] {
        assert!(!edge.stderr().contains(&format!("-p {} ", cluster.node(n).port())), "{}", edge.stderr());
    }
}

/// The doctor asks each node, and says of which it speaks.
#[tokio::test]
async fn the_doctor_looks_at_every_node() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(true).await;
    let stack = builder(&cluster, &receiver).edges(1).start().await;
    let well = Report::of(&stack, &[]).await;
    for check in ["reachable", "version", "eviction", "memory", "persistence", "clock", "replicas", "durability"] {
        assert_eq!(well.status(&format!("redis.{check}")), ["ok"], "{check}: {:#?}", well.0);
    }
    assert!(well.with("redis.version", "ok")[0]["what"].as_str().unwrap().starts_with("all 6 nodes"));
    let spread = well.with("redis.spread", "ok")[0]["what"].as_str().unwrap();
    assert!((0..3).all(|n| spread.contains(&cluster.node(n).addr())), "{spread}");
    assert_eq!(well.status("redis.cluster"), ["ok"], "{:#?}", well.0);

    cluster.node(4).command(["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    cluster.node(2).command(["CONFIG", "SET", "maxmemory", "900kb"]).await;
    let id = cluster.node(1).command(["CLUSTER", "MYID"]).await.text();
    cluster.node(0).command(["CLUSTER", "SETSLOT", "77", "MIGRATING", &id]).await;
    let ill = Report::of(&stack, &[]).await;
    let told = |check: &str, status: &str, n: usize| {
        let of_node = |found: &&Value| found["what"].as_str().unwrap().starts_with(&cluster.node(n).addr());
        let found = ill.with(check, status).into_iter().find(of_node);
        let found = found.unwrap_or_else(|| panic!("no {check} {status} of node {n} in {:#?}", ill.0));
        found["fix"].as_str().unwrap().to_owned()
    };
    let mend = format!("-p {}:\nCONFIG SET maxmemory-policy noeviction", cluster.node(4).port());
    assert!(told("redis.eviction", "fail", 4).contains(&mend));
    told("redis.memory", "fail", 2);
    assert!(told("redis.cluster", "warn", 0).contains("--cluster fix"));
    assert_eq!(ill.status("redis.eviction"), ["ok", "fail"], "{:#?}", ill.0);

    cluster.node(5).kill9();
    wait_until("its master misses it", async || {
        let master = cluster.node(2).command(["INFO", "replication"]).await.text();
        master.lines().any(|line| line.trim() == "connected_slaves:0")
    })
    .await;
    let alone = Report::of(&stack, &["--set", "redis.durability=replicated(1)"]).await;
    let found = alone.with("redis.replicas", "fail");
    let told: Vec<&str> = found.iter().map(|found| found["what"].as_str().unwrap()).collect();
    assert_eq!(told, [format!("{}: 0 connected, replicated(1) wants 1", cluster.node(2).addr())]);
}

/// What the doctor found.
struct Report(Vec<Value>);

impl Report {
    async fn of(stack: &Stack, args: &[&str]) -> Self {
        let args: Vec<&str> = ["doctor", "--json"].iter().chain(args).copied().collect();
        Self(millstream(&args, stack.env()).await.json().as_array().unwrap().clone())
    }

    fn status(&self, check: &str) -> Vec<&str> {
        let of_check = self.0.iter().filter(|found| found["check"] == check);
        of_check.map(|found| found["status"].as_str().unwrap()).collect()
    }

    fn with(&self, check: &str, status: &str) -> Vec<&Value> {
        self.0.iter().filter(|found| found["check"] == check && found["status"] == status).collect()
    }
}
