//! How entries end: acknowledged in order, retried, parked, delivered again on request.

use millstream::group::positions;
use millstream::model::EntryId;

use crate::bench::{Act, Bench, P0};
use crate::support::{Reply, wait_until, wait_until_eq};

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
