//! Processes whose clock is wrong. What counts is Redis' clock, which gives the ids; a process's own
//! judges tokens, and nothing that could be lost.

use serde_json::json;

use crate::support::{Receiver, Redis, Stack, Traffic, get, readers, skewed_clock, wait_until};

const HOUR: i64 = 3_600;

/// Adds a process whose clock is `seconds` ahead, and waits until it is ready.
async fn add(stack: &mut Stack, name: &str, program: &str, seconds: i64) {
    let env = skewed_clock(seconds);
    let env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (*key, value.as_str())).collect();
    stack.add(name, program, &env);
    stack.process(name).ready().await;
}

/// Half of the processes live an hour ahead, the others an hour behind, and hand over to each other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_whose_clocks_are_an_hour_off_lose_and_double_nothing() {
    let receiver = Receiver::start().await;
    let mut stack = Stack::builder()
        .edges(0)
        .workers(&[])
        .env("DATA_CALLBACK_URL", receiver.url())
        .env("MILLSTREAM__GROUP__LEASE_TTL", "2s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .start()
        .await;
    for program in ["archive", "replay", "callback", "edge"] {
        add(&mut stack, program, program, HOUR).await;
        add(&mut stack, &format!("{program}2"), program, -HOUR).await;
    }
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for program in ["archive", "replay2", "callback", "edge2"] {
        traffic.goes_on(40).await;
        stack.kill9(program);
        traffic.goes_on(40).await;
        stack.start_again(program).await;
    }
    traffic.goes_on(40).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// Entries that are an hour younger than `retention.min_age` by the right clock stay, whatever the
/// archive worker's clock says.
#[tokio::test]
async fn an_archive_worker_whose_clock_is_ahead_does_not_trim_early() {
    let redis = Redis::start(&[]).await;
    let mut stack = Stack::builder()
        .redis(redis)
        .edges(0)
        .workers(&["replay"])
        .env("MILLSTREAM__RETENTION__MIN_AGE", "30m")
        .env("MILLSTREAM__RETENTION__INTERVAL", "200ms")
        .start()
        .await;
    add(&mut stack, "archive", "archive", HOUR).await;
    stack.add("edge", "edge", &[]);
    stack.process("edge").ready().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=5 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    stack.archived_when("chat", 5).await;
    let first = trims(&stack).await;
    // Of four partitions, each in turn: the room's was among them.
    wait_until("retention has looked at every partition", async || trims(&stack).await >= first + 12).await;
    assert_eq!(stack.logged("chat").await.len(), 5, "trimmed by a clock that is wrong");
}

/// How often Redis was asked to trim.
async fn trims(stack: &Stack) -> u64 {
    let stats = stack.redis().command(["INFO", "commandstats"]).await.text();
    let calls =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_xtrim:calls=")?.split(',').next()?.parse().ok());
    calls.unwrap_or(0)
}

/// An item that was accepted a moment ago is not too old because its worker lives in the future.
#[tokio::test]
async fn a_callback_worker_whose_clock_is_ahead_gives_nothing_up_as_too_old() {
    let receiver = Receiver::start().await;
    let mut stack = Stack::builder()
        .env("MILLSTREAM__CALLBACK__ENDPOINTS__0__NAME", "young")
        .env("MILLSTREAM__CALLBACK__ENDPOINTS__0__URL", receiver.url())
        .env("MILLSTREAM__CALLBACK__ENDPOINTS__0__MAX_AGE", "30m")
        .start()
        .await;
    add(&mut stack, "callback", "callback", HOUR).await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=5 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    // Five messages, and the event that the room was created.
    wait_until("the endpoint has all of it", async || receiver.accepted().len() >= 6).await;
    let dead = format!("{}:dead:callback:young", stack.prefix);
    assert_eq!(stack.redis().command(["XLEN", &dead]).await.int(), 0);
}

/// Rows lie in the month of their id, not in that of the worker's clock.
#[tokio::test]
async fn rows_lie_in_the_month_of_their_id_whatever_the_clock_says() {
    let mut stack = Stack::builder().edges(0).workers(&["replay"]).start().await;
    add(&mut stack, "archive", "archive", 40 * 24 * HOUR).await;
    stack.add("edge", "edge", &[]);
    stack.process("edge").ready().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=5 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    stack.archived_when("chat", 5).await;
    let misplaced: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM messages \
         WHERE tableoid::regclass::text <> 'messages_' || to_char(to_timestamp(ms / 1000) AT TIME ZONE 'UTC', '\"y\"YYYY\"m\"MM')",
    )
    .fetch_one(&stack.database.pool)
    .await
    .unwrap();
    assert_eq!(misplaced, 0);
}

/// Months of the archive are not too old because a worker lives in the future. Cause: it compared them with
/// its own clock.
#[tokio::test]
async fn an_archive_worker_whose_clock_is_ahead_drops_no_month_early() {
    let mut stack = Stack::builder().workers(&["archive"]).start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=5 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    stack.archived_when("chat", 5).await;
    let env = skewed_clock(400 * 24 * HOUR);
    let mut env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (*key, value.as_str())).collect();
    env.push(("MILLSTREAM__RETENTION__ARCHIVE_MAX_AGE", "90d"));
    stack.add("ahead", "archive", &env);
    stack.process("ahead").ready().await;
    wait_until("it has looked for old months", async || {
        let (_, metrics) = get(stack.metrics_addr("ahead"), "/metrics", &[]).await;
        metrics.lines().any(|line| line.starts_with("millstream_archive_months_dropped_total "))
    })
    .await;
    assert_eq!(stack.archived("chat").await.len(), 5, "dropped by a clock that is wrong");
}
