//! A system that runs, and what happens to its groups.

use serde_json::json;

use crate::support::{Receiver, Respond, Stack, eventually, millstream};
use crate::{Report, doctor};

/// The processes' settings with the addresses of the edge that runs.
fn env(stack: &Stack) -> Vec<(String, String)> {
    let mut env = stack.env().to_vec();
    env.push(("MILLSTREAM__EDGE__LISTEN".into(), stack.addr("edge").into()));
    env.push(("MILLSTREAM__METRICS__LISTEN".into(), stack.metrics_addr("edge").into()));
    env.push(("MILLSTREAM__API__LISTEN".into(), format!("127.0.0.1:{}", crate::support::free_port())));
    env
}

/// The first report that is as it is wanted.
async fn report(what: &str, args: &[&str], env: &[(String, String)], wanted: impl Fn(&Report) -> bool) -> Report {
    eventually(what, async || Some(doctor(args, env).await).filter(&wanted)).await
}

#[tokio::test]
async fn a_healthy_system_passes() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send("room", "c-1", json!(1)).await;
    let env = env(&stack);
    // Ready is each process by itself; owners and groups of all partitions follow.
    let report = report("nothing fails", &[], &env, |report| report.failed().is_empty()).await;
    assert_eq!(report.code, Some(0));
    for check in [
        "redis.reachable",
        "redis.durability",
        "redis.partitions",
        "redis.persistence",
        "redis.memory",
        "postgres.reachable",
        "postgres.writable",
        "postgres.migrations",
        "postgres.connections",
        "system.keys",
        "port edge.listen",
        "port metrics.listen",
        "endpoint data",
        "group archive",
        "group replay",
        "group callback:data",
    ] {
        assert!(report.has(check, "ok"), "{check} in {:#?}", report.findings);
    }
    assert!(report.one("port edge.listen", "ok")["what"].as_str().unwrap().contains("of ours"));
    assert!(receiver.seen().iter().all(|callback| callback.path == "/hook"), "nothing but items is posted");
    // Its Postgres has fsync off: a warning, which counts only if that is wanted.
    assert_eq!(doctor(&["--strict"], &env).await.code, Some(1));
    let table = millstream(&["doctor"], &env).await;
    assert_eq!(table.code, Some(0), "{}", table.out);
    assert!(table.out.contains("postgres.durability") && table.out.contains("fix  "), "{}", table.out);
    assert!(!table.out.contains('\u{1b}'));
}

#[tokio::test]
async fn a_group_that_stands_still_is_told_with_its_reason() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Hang);
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send("room", "c-1", json!(1)).await;
    let env = env(&stack);
    let stuck = |report: &Report| {
        let found = report.with("group callback:data", "fail");
        found.iter().any(|one| one["what"].as_str().unwrap().contains("not moving"))
    };
    report("it stands still", &["--stuck-after", "1ms"], &env, stuck).await;

    stack.kill9("callback");
    let unowned = |report: &Report| {
        let found = report.with("group callback:data", "fail");
        found.iter().any(|one| one["what"].as_str().unwrap().contains("no owner"))
    };
    let told = report("nobody owns it", &[], &env, unowned).await;
    assert_eq!(told.code, Some(1));
    assert!(told.has("group archive", "ok"), "{:#?}", told.findings);

    let without: Vec<_> = env.iter().filter(|(key, _)| key != "DATA_CALLBACK_URL").cloned().collect();
    let left = doctor(&[], &without).await;
    assert!(left.one("group callback:data", "warn")["fix"].as_str().unwrap().contains("groups remove"));
}

/// A worker that hangs keeps its lease for a while, and says no more that it lives.
#[tokio::test]
async fn a_lease_of_a_worker_that_is_not_among_the_living_is_told() {
    let stack = Stack::start().await;
    let env = env(&stack);
    report("nothing fails", &[], &env, |report| report.failed().is_empty()).await;
    stack.kill9("replay");
    for p in 0..4 {
        let key = format!("{}:lease:replay:{{{p}}}", stack.prefix);
        stack.redis().command(["SET", &key, "99999999999999 ghost"]).await;
    }
    let told = report("the ghost is seen", &[], &env, |report| {
        let found = report.with("group replay", "warn");
        found.iter().any(|one| one["what"].as_str().unwrap().contains("ghost"))
    })
    .await;
    assert!(told.has("group archive", "ok"), "{:#?}", told.findings);
}

#[tokio::test]
async fn dead_letters_and_pauses_are_told_with_the_command_that_ends_them() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let env = env(&stack);
    let key = format!("{}:dead:archive", stack.prefix);
    stack.redis().command(["XADD", &key, "*", "x", "y"]).await;
    millstream(&["endpoints", "pause", "data"], &env).await.ok();
    let soon = (crate::support::now_s() + 3_600) * 1_000;
    let state = format!("{}:callback:data", stack.prefix);
    stack.redis().command(["HSET", &state, "not_before", &soon.to_string()]).await;
    let report = doctor(&[], &env).await;
    let letters = report.with("group archive", "warn");
    assert!(letters.iter().any(|one| one["fix"].as_str().unwrap().contains("dead retry --group archive")));
    let standing = report.with("endpoint data", "warn");
    assert!(standing.iter().any(|one| one["fix"].as_str().unwrap().contains("endpoints resume data")));
    assert!(standing.iter().any(|one| one["what"].as_str().unwrap().contains("left alone until")));
}
