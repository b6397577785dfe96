//! A log of its own for each test, workers in tasks, and a group that does as the test says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::config::{GroupSettings, RedisSettings, Secret, Span};
use millstream::group::{Delivery, Group, Handler, Lease, Runner, RunnerStatus, Settler};
use millstream::model::{EntryId, PartitionId, Partitions};
use millstream::shutdown::Shutdown;
use millstream::stream::Redis as Door;
use tokio::task::JoinHandle;

use crate::support::{Redis, unique, wait_until_eq};

pub(crate) const P0: PartitionId = PartitionId(0);

/// What a handler does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Done,
    Hold,
    Retry,
    Park,
    Panic,
}

/// A delivery as a handler saw it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) worker: &'static str,
    pub(crate) partition: u16,
    pub(crate) id: EntryId,
    pub(crate) body: String,
    pub(crate) deliveries: u64,
    pub(crate) replay_of: Option<EntryId>,
}

pub(crate) type Behaviour = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

/// A group that does as the test says, and remembers what it saw.
#[derive(Clone)]
pub(crate) struct Probe {
    pub(crate) worker: &'static str,
    pub(crate) group: String,
    pub(crate) act: Behaviour,
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) held: Arc<Mutex<Vec<(Settler, Delivery)>>>,
    pub(crate) closed: Arc<Mutex<Vec<u16>>>,
}

pub(crate) struct ProbeHandler {
    probe: Probe,
    lease: Lease,
    settler: Settler,
}

impl Group for Probe {
    type Handler = ProbeHandler;

    fn name(&self) -> &str {
        &self.group
    }

    async fn start(&self, _partition: PartitionId) -> millstream::Result<EntryId> {
        Ok(EntryId::ZERO)
    }

    async fn open(&self, lease: Lease, settler: Settler) -> millstream::Result<ProbeHandler> {
        Ok(ProbeHandler { probe: self.clone(), lease, settler })
    }
}

impl Handler for ProbeHandler {
    async fn handle(&mut self, batch: Vec<Delivery>) {
        for delivery in batch {
            let seen = Seen {
                worker: self.probe.worker,
                partition: self.lease.partition.0,
                id: delivery.id,
                body: delivery.raw.text("e").unwrap_or_default().to_owned(),
                deliveries: delivery.deliveries,
                replay_of: delivery.replay_of,
            };
            self.probe.seen.lock().unwrap().push(seen.clone());
            match (self.probe.act)(&seen) {
                Act::Done => self.settler.done(delivery),
                Act::Hold => self.probe.held.lock().unwrap().push((self.settler.clone(), delivery)),
                Act::Retry => self.settler.retry(delivery),
                Act::Park => self.settler.park(delivery, "data", "not to be had"),
                Act::Panic => panic!("as the test wants"),
            }
        }
    }

    async fn close(self, _grace: Duration) {
        self.probe.closed.lock().unwrap().push(self.lease.partition.0);
    }
}

/// A worker in a task.
pub(crate) struct Worker {
    pub(crate) status: Arc<RunnerStatus>,
    pub(crate) shutdown: Shutdown,
    pub(crate) task: JoinHandle<millstream::Result<()>>,
}

impl Worker {
    pub(crate) async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` would: nothing is handed back or released.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// One test's log: own prefix, own group.
pub(crate) struct Bench {
    pub(crate) redis: &'static Redis,
    pub(crate) door: Door,
    pub(crate) partitions: Partitions,
    pub(crate) settings: GroupSettings,
    pub(crate) probe: Probe,
    pub(crate) prefix: String,
}

impl Bench {
    pub(crate) async fn new(partitions: u16, act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::on(Redis::shared().await, partitions, act).await
    }

    pub(crate) async fn on(
        redis: &'static Redis,
        partitions: u16,
        act: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let prefix = unique("g");
        let settings =
            RedisSettings { url: Secret::new(redis.url()), prefix: prefix.clone(), ..RedisSettings::default() };
        let settings_of_group = GroupSettings {
            lease_ttl: Span::millis(1_500),
            lease_interval: Span::millis(200),
            max_deliveries: 5,
            ..GroupSettings::default()
        };
        Self {
            redis,
            door: Door::connect(&settings).await.unwrap(),
            partitions: Partitions::new(partitions).unwrap(),
            settings: settings_of_group,
            probe: Probe {
                worker: "",
                group: "probe".into(),
                act: Arc::new(act),
                seen: Arc::default(),
                held: Arc::default(),
                closed: Arc::default(),
            },
            prefix,
        }
    }

    pub(crate) async fn worker(&self, name: &'static str) -> Worker {
        let door = self.door.another().await.unwrap();
        let shutdown = Shutdown::new();
        let runner =
            Runner::new(door, self.settings.clone(), self.partitions).named(name).grace(Duration::from_secs(5));
        let (status, stop) = (runner.status(), shutdown.clone());
        let probe = Probe { worker: name, ..self.probe.clone() };
        Worker { status, shutdown, task: tokio::spawn(async move { runner.run(probe, stop).await }) }
    }

    pub(crate) async fn add(&self, p: u16, body: &str) -> EntryId {
        let log = self.door.keys().log(PartitionId(p));
        let id = self.redis.command(["XADD", &log, "*", "r", "room", "s", "1", "k", "m", "e", body]).await;
        id.text().parse().unwrap()
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.probe.seen.lock().unwrap().iter().map(|seen| seen.body.clone()).collect()
    }

    pub(crate) fn seen(&self, body: &str) -> Vec<Seen> {
        self.probe.seen.lock().unwrap().iter().filter(|seen| seen.body == body).cloned().collect()
    }

    pub(crate) async fn checkpoint(&self, p: u16) -> EntryId {
        self.door.checkpoint(PartitionId(p), "probe").await.unwrap().unwrap_or(EntryId::ZERO)
    }

    pub(crate) async fn pending(&self, p: u16) -> u64 {
        self.door.pending(&self.door.keys().log(PartitionId(p)), "probe").await.map_or(0, |pending| pending.count)
    }

    pub(crate) async fn settled(&self, p: u16, id: EntryId) {
        wait_until_eq("the checkpoint", id, async || self.checkpoint(p).await).await;
        wait_until_eq("nothing to be pending", 0, async || self.pending(p).await).await;
    }

    pub(crate) async fn owners(&self) -> BTreeMap<u16, String> {
        let mut owners = BTreeMap::new();
        for p in self.partitions.all() {
            if let Some(holder) = self.door.lease_holder("probe", p).await.unwrap() {
                owners.insert(p.0, holder.worker);
            }
        }
        owners
    }

    /// How many partitions each of these workers owns, once all are owned.
    pub(crate) async fn shares(&self, workers: &[&str], wanted: &[usize]) {
        wait_until_eq("the shares", wanted.to_vec(), async || {
            let owners = self.owners().await;
            workers.iter().map(|worker| owners.values().filter(|owner| owner == worker).count()).collect()
        })
        .await;
    }
}
