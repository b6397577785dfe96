//! What may be trimmed, and what that costs.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream::config::{RetentionSettings, Span};
use millstream::group::trim::{self, Cut};
use millstream::model::EntryId;
use millstream::stream::{Trimmed, Trimmer};

use crate::bench::{Act, Bench, P0};
use crate::support::{wait_until, wait_until_eq};

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
