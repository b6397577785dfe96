//! Who owns a partition: take-over, handing over, sharing, and what is lost never.

use std::collections::HashSet;

use millstream::model::{EntryId, PartitionId};

use crate::bench::{Act, Bench, P0};
use crate::support::{Redis, eventually, wait_until, wait_until_eq};

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
async fn a_worker_that_gets_no_answer_gives_its_partitions_up_by_its_own_clock() {
    let redis: &'static Redis = Box::leak(Box::new(Redis::start(&[]).await));
    let bench = Bench::on(redis, 2, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    bench.shares(&["a"], &[2]).await;
    redis.freeze();
    wait_until("it owns nothing", async || worker.status.partitions() == 0).await;
    redis.thaw();
    // It comes back by itself, and nothing is stuck from before.
    bench.shares(&["a"], &[2]).await;
    let last = bench.add(1, "x").await;
    bench.settled(1, last).await;
    worker.stop().await;
}

#[tokio::test]
async fn an_emptied_redis_is_owned_and_read_again() {
    let bench = Bench::on(Box::leak(Box::new(Redis::start(&[]).await)), 1, |_| Act::Done).await;
    let worker = bench.worker("a").await;
    let before = bench.add(0, "before").await;
    bench.settled(0, before).await;
    bench.redis.command(["FLUSHALL"]).await;
    let after = bench.add(0, "after").await;
    bench.settled(0, after).await;
    // Perhaps twice: once by the owner that had not yet heard that its lease is gone.
    assert!(bench.bodies().contains(&"after".to_owned()));
    worker.stop().await;
}
