//! The promises of the group runner, against a real Redis: order, at least once, take-over, sharing,
//! checkpoints, parking, panics, copies that are delivered again.

mod support;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::config::{GroupSettings, RedisSettings, RetentionSettings, Secret, Span};
use millstream::group::trim::{self, Cut};
use millstream::group::{Delivery, Group, Handler, Lease, Runner, RunnerStatus, Settler, positions};
use millstream::model::{EntryId, PartitionId, Partitions};
use millstream::shutdown::Shutdown;
use millstream::stream::{Redis as Door, Trimmed, Trimmer};
use support::{Redis, Reply, eventually, unique, wait_until, wait_until_eq};
use tokio::task::JoinHandle;

const P0: PartitionId = PartitionId(0);

/// What a handler does with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Done,
    Hold,
    Retry,
    Park,
    Panic,
}

/// A delivery as a handler saw it.
#[derive(Debug, Clone)]
struct Seen {
    worker: &'static str,
    partition: u16,
    id: EntryId,
    body: String,
    deliveries: u64,
    replay_of: Option<EntryId>,
}

type Behaviour = Arc<dyn Fn(&Seen) -> Act + Send + Sync>;

/// A group that does as the test says, and remembers what it saw.
#[derive(Clone)]
struct Probe {
    worker: &'static str,
    group: String,
    act: Behaviour,
    seen: Arc<Mutex<Vec<Seen>>>,
    held: Arc<Mutex<Vec<(Settler, Delivery)>>>,
    closed: Arc<Mutex<Vec<u16>>>,
}

struct ProbeHandler {
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
struct Worker {
    status: Arc<RunnerStatus>,
    shutdown: Shutdown,
    task: JoinHandle<millstream::Result<()>>,
}

impl Worker {
    async fn stop(self) {
        self.shutdown.request();
        self.task.await.unwrap().unwrap();
    }

    /// As `kill -9` would: nothing is handed back or released.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

/// One test's log: own prefix, own group.
struct Bench {
    redis: &'static Redis,
    door: Door,
    partitions: Partitions,
    settings: GroupSettings,
    probe: Probe,
    prefix: String,
}

impl Bench {
    async fn new(partitions: u16, act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::on(Redis::shared().await, partitions, act).await
    }

    async fn on(redis: &'static Redis, partitions: u16, act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
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

    async fn worker(&self, name: &'static str) -> Worker {
        let door = self.door.another().await.unwrap();
        let shutdown = Shutdown::new();
        let runner =
            Runner::new(door, self.settings.clone(), self.partitions).named(name).grace(Duration::from_secs(5));
        let (status, stop) = (runner.status(), shutdown.clone());
        let probe = Probe { worker: name, ..self.probe.clone() };
        Worker { status, shutdown, task: tokio::spawn(async move { runner.run(probe, stop).await }) }
    }

    async fn add(&self, p: u16, body: &str) -> EntryId {
        let log = self.door.keys().log(PartitionId(p));
        let id = self.redis.command(["XADD", &log, "*", "r", "room", "s", "1", "k", "m", "e", body]).await;
        id.text().parse().unwrap()
    }

    fn bodies(&self) -> Vec<String> {
        self.probe.seen.lock().unwrap().iter().map(|seen| seen.body.clone()).collect()
    }

    fn seen(&self, body: &str) -> Vec<Seen> {
        self.probe.seen.lock().unwrap().iter().filter(|seen| seen.body == body).cloned().collect()
    }

    async fn checkpoint(&self, p: u16) -> EntryId {
        self.door.checkpoint(PartitionId(p), "probe").await.unwrap().unwrap_or(EntryId::ZERO)
    }

    async fn pending(&self, p: u16) -> u64 {
        self.door.pending(&self.door.keys().log(PartitionId(p)), "probe").await.map_or(0, |pending| pending.count)
    }

    async fn settled(&self, p: u16, id: EntryId) {
        wait_until_eq("the checkpoint", id, async || self.checkpoint(p).await).await;
        wait_until_eq("nothing to be pending", 0, async || self.pending(p).await).await;
    }

    async fn owners(&self) -> BTreeMap<u16, String> {
        let mut owners = BTreeMap::new();
        for p in self.partitions.all() {
            if let Some(holder) = self.door.lease_holder("probe", p).await.unwrap() {
                owners.insert(p.0, holder.worker);
            }
        }
        owners
    }

    /// How many partitions each of these workers owns, once all are owned.
    async fn shares(&self, workers: &[&str], wanted: &[usize]) {
        wait_until_eq("the shares", wanted.to_vec(), async || {
            let owners = self.owners().await;
            workers.iter().map(|worker| owners.values().filter(|owner| owner == worker).count()).collect()
        })
        .await;
    }
}

#[tokio::test]
async fn entries_come_in_order_and_are_acknowledged() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let mut last = EntryId::ZERO;
    for n in 0..50 {
        last = bench.add(0, &n.to_string()).await;
    }
    let worker = bench.worker("a").await;
    bench.settled(0, last).await;
    for n in 50..100 {
        last = bench.add(0, &n.to_string()).await;
    }
    bench.settled(0, last).await;
    assert_eq!(bench.bodies(), (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    worker.stop().await;
    assert!(bench.owners().await.is_empty());
}

#[tokio::test]
async fn the_checkpoint_waits_for_the_oldest_that_is_not_settled() {
    let bench = Bench::new(1, |_| Act::Hold).await;
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(bench.add(0, &n.to_string()).await);
    }
    let worker = bench.worker("a").await;
    let held = bench.probe.held.clone();
    wait_until("all are held", async || held.lock().unwrap().len() == 3).await;
    let (settler, third) = held.lock().unwrap().pop().unwrap();
    settler.done(third);
    wait_until_eq("two to be pending", 2, async || bench.pending(0).await).await;
    assert_eq!(bench.checkpoint(0).await, EntryId::ZERO);
    let (_, second) = held.lock().unwrap().pop().unwrap();
    let (_, first) = held.lock().unwrap().pop().unwrap();
    settler.done(first);
    wait_until_eq("the first", ids[0], async || bench.checkpoint(0).await).await;
    settler.done(second);
    bench.settled(0, ids[2]).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_is_followed_by_another_that_takes_what_it_left() {
    let bench = Bench::new(1, |seen| if seen.worker == "a" { Act::Hold } else { Act::Done }).await;
    let first = bench.worker("a").await;
    let mut last = EntryId::ZERO;
    for n in 0..5 {
        last = bench.add(0, &n.to_string()).await;
    }
    wait_until("the first has them", async || bench.bodies().len() == 5).await;
    first.kill().await;
    // Until then a read of the dead one may still be under way, as it is not in a process of its own.
    wait_until("its lease has lapsed", async || bench.owners().await.is_empty()).await;
    for n in 5..8 {
        last = bench.add(0, &n.to_string()).await;
    }
    let second = bench.worker("b").await;
    bench.settled(0, last).await;
    let seen = bench.probe.seen.lock().unwrap().clone();
    let by_second: Vec<_> = seen.iter().filter(|seen| seen.worker == "b").collect();
    assert_eq!(
        by_second.iter().map(|seen| seen.body.as_str()).collect::<Vec<_>>(),
        ["0", "1", "2", "3", "4", "5", "6", "7"]
    );
    assert_eq!(by_second.iter().map(|seen| seen.deliveries).collect::<Vec<_>>(), [2, 2, 2, 2, 2, 1, 1, 1]);
    second.stop().await;
}

#[tokio::test]
async fn a_worker_that_stops_hands_back_what_it_did_not_finish() {
    let bench = Bench::new(1, |seen| if seen.worker == "a" { Act::Hold } else { Act::Done }).await;
    let first = bench.worker("a").await;
    let last = bench.add(0, "x").await;
    wait_until("the first has it", async || bench.bodies().len() == 1).await;
    first.stop().await;
    assert_eq!(*bench.probe.closed.lock().unwrap(), [0]);
    assert!(bench.owners().await.is_empty());
    let second = bench.worker("b").await;
    bench.settled(0, last).await;
    // What was handed back in order is no failure of the entry.
    assert_eq!(bench.seen("x").iter().map(|seen| seen.deliveries).collect::<Vec<_>>(), [1, 1]);
    second.stop().await;
}

#[tokio::test]
async fn live_workers_share_the_partitions_evenly() {
    let bench = Bench::new(7, |_| Act::Done).await;
    let a = bench.worker("a").await;
    bench.shares(&["a"], &[7]).await;
    let b = bench.worker("b").await;
    bench.shares(&["a", "b"], &[4, 3]).await;
    let c = bench.worker("c").await;
    bench.shares(&["a", "b", "c"], &[3, 2, 2]).await;
    assert_eq!(a.status.workers(), 3);
    a.kill().await;
    bench.shares(&["b", "c"], &[4, 3]).await;
    b.stop().await;
    bench.shares(&["c"], &[7]).await;
    c.stop().await;
}

#[tokio::test]
async fn nothing_is_lost_or_out_of_order_while_workers_come_and_go() {
    let bench = Bench::new(4, |_| Act::Done).await;
    let mut last = [EntryId::ZERO; 4];
    let mut workers = vec![bench.worker("a").await];
    for n in 0..200_u16 {
        let p = n % 4;
        last[usize::from(p)] = bench.add(p, &n.to_string()).await;
        match n {
            50 => workers.push(bench.worker("b").await),
            90 => workers.push(bench.worker("c").await),
            120 => workers.remove(0).kill().await,
            160 => workers.remove(0).stop().await,
            _ => {}
        }
    }
    for p in 0..4 {
        bench.settled(p, last[usize::from(p)]).await;
    }
    let seen = bench.probe.seen.lock().unwrap().clone();
    let all: HashSet<_> = seen.iter().map(|seen| seen.body.clone()).collect();
    assert_eq!(all.len(), 200);
    for p in 0..4 {
        let mut firsts = Vec::new();
        for seen in seen.iter().filter(|seen| seen.partition == p) {
            if !firsts.contains(&seen.id) {
                firsts.push(seen.id);
            }
        }
        assert!(firsts.is_sorted(), "partition {p} was first seen out of order");
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_group_that_was_destroyed_is_made_again_at_its_checkpoint() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    let first = bench.add(0, "before").await;
    bench.settled(0, first).await;
    let log = bench.door.keys().log(P0);
    // A reader that is blocked in the group hears of it at once.
    bench.redis.command(["XGROUP", "DESTROY", &log, "probe"]).await;
    let last = bench.add(0, "after").await;
    bench.settled(0, last).await;
    assert_eq!(bench.bodies(), ["before", "after"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_parked_entry_is_kept_with_its_reason_and_holds_nothing_up() {
    let bench = Bench::new(1, |seen| if seen.body == "bad" { Act::Park } else { Act::Done }).await;
    let worker = bench.worker("a").await;
    let bad = bench.add(0, "bad").await;
    let last = bench.add(0, "good").await;
    bench.settled(0, last).await;
    let dead = bench.door.dead_letters("probe", EntryId::ZERO, EntryId::MAX, 10).await.unwrap();
    assert_eq!(dead.len(), 1);
    let letter = &dead[0].1;
    assert_eq!((letter.original, letter.reason.as_str(), letter.error.as_str()), (bad, "data", "not to be had"));
    assert_eq!((letter.partition, letter.attempts), (P0, 1));
    assert_eq!(letter.raw().into_entry().unwrap().room.as_str(), "room");
    worker.stop().await;
}

#[tokio::test]
async fn a_retried_entry_comes_again_and_is_parked_when_it_came_too_often() {
    let mut bench = Bench::new(1, |seen| if seen.body == "bad" { Act::Retry } else { Act::Done }).await;
    bench.settings.max_deliveries = 3;
    let worker = bench.worker("a").await;
    bench.add(0, "bad").await;
    let last = bench.add(0, "good").await;
    bench.settled(0, last).await;
    assert_eq!(bench.seen("bad").iter().map(|seen| seen.deliveries).collect::<Vec<_>>(), [1, 2, 3]);
    let dead = bench.door.dead_letters("probe", EntryId::ZERO, EntryId::MAX, 10).await.unwrap();
    assert_eq!(dead.iter().map(|(_, letter)| letter.reason.as_str()).collect::<Vec<_>>(), ["exhausted_deliveries"]);
    worker.stop().await;
}

#[tokio::test]
async fn a_panic_costs_only_the_entry_that_panics() {
    let mut bench = Bench::new(1, |seen| if seen.body == "bad" { Act::Panic } else { Act::Done }).await;
    bench.settings.max_deliveries = 3;
    for n in 0..10 {
        bench.add(0, &n.to_string()).await;
    }
    bench.add(0, "bad").await;
    let mut last = EntryId::ZERO;
    for n in 10..20 {
        last = bench.add(0, &n.to_string()).await;
    }
    let worker = bench.worker("a").await;
    bench.settled(0, last).await;
    let dead = bench.door.dead_letters("probe", EntryId::ZERO, EntryId::MAX, 10).await.unwrap();
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].1.reason, "exhausted_deliveries");
    assert_eq!(bench.seen("bad").len(), 3);
    for n in 0..20 {
        assert!(!bench.seen(&n.to_string()).is_empty(), "{n} was never seen");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_copy_is_delivered_again_marked_and_its_stream_goes_with_it() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    let original = bench.add(0, "x").await;
    bench.settled(0, original).await;
    let log = bench.door.keys().log(P0);
    let entry = bench.door.range(&log, original, original, 1).await.unwrap().remove(0);
    for _ in 0..2 {
        bench.door.redeliver(P0, "probe", &entry).await.unwrap();
        let key = bench.door.keys().redeliver(P0, "probe");
        wait_until_eq("the copy to be gone", Reply::Int(0), async || bench.redis.command(["EXISTS", &key]).await).await;
    }
    let replayed: Vec<_> = bench.seen("x").iter().map(|seen| seen.replay_of).collect();
    assert_eq!(replayed, [None, Some(original), Some(original)]);
    assert_eq!(bench.checkpoint(0).await, original);
    worker.stop().await;
}

#[tokio::test]
async fn what_is_pending_and_nobody_has_is_found() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    let first = bench.add(0, "first").await;
    bench.settled(0, first).await;
    // As a reply that was lost on its way to a worker would leave it.
    let log = bench.door.keys().log(P0);
    let script = "redis.call('XADD', KEYS[1], '*', 'r', 'room', 's', '2', 'k', 'm', 'e', 'lost') \
                  return redis.call('XREADGROUP', 'GROUP', 'probe', 'ghost', 'STREAMS', KEYS[1], '>')";
    bench.redis.command(["EVAL", script, "1", &log]).await;
    wait_until("it was found", async || bench.seen("lost").len() == 1).await;
    wait_until_eq("nothing to be pending", 0, async || bench.pending(0).await).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_killed_and_comes_back_costs_nothing() {
    let redis: &'static Redis = Box::leak(Box::new(Redis::start(&[]).await));
    let bench = Bench::on(redis, 2, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    let mut last = [EntryId::ZERO; 2];
    for n in 0..20 {
        last[n % 2] = bench.add(u16::try_from(n % 2).unwrap(), &n.to_string()).await;
    }
    redis.kill9();
    redis.start_again().await;
    for n in 20..40 {
        last[n % 2] = bench.add(u16::try_from(n % 2).unwrap(), &n.to_string()).await;
    }
    for p in 0..2 {
        eventually("the checkpoint", async || {
            let checkpoint = bench.door.checkpoint(PartitionId(p), "probe").await.ok().flatten();
            (checkpoint == Some(last[usize::from(p)])).then_some(())
        })
        .await;
    }
    let all: HashSet<_> = bench.bodies().into_iter().collect();
    assert_eq!(all.len(), 40);
    worker.stop().await;
}

#[tokio::test]
async fn a_position_tells_owner_lag_and_pending() {
    let bench = Bench::new(1, |seen| if seen.body == "held" { Act::Hold } else { Act::Done }).await;
    let worker = bench.worker("a").await;
    let first = bench.add(0, "done").await;
    bench.settled(0, first).await;
    let held = bench.add(0, "held").await;
    bench.add(0, "done").await;
    wait_until("all were seen", async || bench.bodies().len() == 3).await;
    wait_until_eq("one to be pending", 1, async || bench.pending(0).await).await;
    let all = positions(&bench.door, bench.partitions, 1_000).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!((all[0].owner.as_deref(), all[0].pending, all[0].lag.entries), (Some("a"), 1, 1));
    assert_eq!(
        (all[0].checkpoint, all[0].oldest_pending, all[0].oldest_unsettled),
        (Some(first), Some(held), Some(held))
    );
    assert!(bench.prefix.starts_with('g'));
    worker.stop().await;
}

#[tokio::test]
async fn retention_never_passes_what_a_group_or_the_archive_needs() {
    let bench = Bench::new(1, |seen| if seen.body == "held" { Act::Hold } else { Act::Done }).await;
    let worker = bench.worker("a").await;
    bench.add(0, "0").await;
    let first = bench.add(0, "1").await;
    bench.settled(0, first).await;
    let held = bench.add(0, "held").await;
    let last = bench.add(0, "3").await;
    wait_until("all were seen", async || bench.bodies().len() == 4).await;
    wait_until_eq("one to be pending", 1, async || bench.pending(0).await).await;
    let retention = RetentionSettings { min_age: Span::secs(0), ..RetentionSettings::default() };
    let log = bench.door.keys().log(P0);
    let token = bench.door.acquire_lease("archive", P0, "archiver", Duration::from_secs(60)).await.unwrap().unwrap();

    // Whoever has not the archive's lease trims nothing.
    let refused = trim::retain(&bench.door, P0, &retention, last, token - 1).await;
    assert_eq!(refused.unwrap_err().kind(), millstream::error::Kind::Fenced);
    // What the archive doesn't hold stays, then what is pending.
    trim::retain(&bench.door, P0, &retention, first, token).await.unwrap();
    assert_eq!(bench.door.first_id(&log).await.unwrap(), Some(first));
    let retained = trim::retain(&bench.door, P0, &retention, last, token).await.unwrap();
    assert_eq!((retained.removed, retained.length), (1, 2));
    assert_eq!(bench.door.first_id(&log).await.unwrap(), Some(held));
    // Young entries stay.
    let (settler, delivery) = bench.probe.held.lock().unwrap().pop().unwrap();
    settler.done(delivery);
    bench.settled(0, last).await;
    let young = RetentionSettings::default();
    assert_eq!(trim::retain(&bench.door, P0, &young, last, token).await.unwrap().removed, 0);
    worker.stop().await;
}

#[tokio::test]
async fn a_plan_tells_what_each_group_would_lose_and_only_force_destroys_it() {
    let bench = Bench::new(1, |seen| if seen.body == "held" { Act::Hold } else { Act::Done }).await;
    let worker = bench.worker("a").await;
    let first = bench.add(0, "0").await;
    bench.settled(0, first).await;
    let held = bench.add(0, "held").await;
    wait_until_eq("one to be pending", 1, async || bench.pending(0).await).await;
    let log = bench.door.keys().log(P0);
    bench.door.create_group(&log, "late", first).await.unwrap();
    let last = bench.add(0, "2").await;
    wait_until("all were seen", async || bench.bodies().len() == 3).await;
    wait_until_eq("one to be pending", 1, async || bench.pending(0).await).await;

    let plan = trim::plan(&bench.door, P0, Cut::Keep(1), Some(last)).await.unwrap();
    assert_eq!((plan.wanted, plan.floor, plan.is_lossy()), (last, first, true));
    assert_eq!((plan.length, plan.removes, plan.removes_forced), (3, 0, 2));
    let losses: BTreeMap<_, _> = plan.losses.iter().map(|l| (l.group.as_str(), (l.unread, l.pending))).collect();
    assert_eq!(losses, BTreeMap::from([("late", (1, 0)), ("probe", (0, 1))]));
    // Redis itself refuses what an old plan would destroy.
    assert_eq!(bench.door.trim_log(P0, last, Trimmer::Operator).await.unwrap(), Trimmed::Needed);
    assert_eq!(trim::execute(&bench.door, &plan, Trimmer::Operator).await.unwrap(), 0);
    assert_eq!(bench.door.first_id(&log).await.unwrap(), Some(first));
    assert_eq!(trim::execute_forced(&bench.door, &plan).await.unwrap(), 2);
    assert_eq!(bench.door.first_id(&log).await.unwrap(), Some(last));
    assert!(held < last);
    // Without knowing the archive nothing is safe.
    let blind = trim::plan(&bench.door, P0, Cut::Keep(0), None).await.unwrap();
    assert_eq!((blind.floor, blind.removes), (EntryId::ZERO, 0));
    worker.stop().await;
}
