//! Starting, saying how it is, stopping: what every process does.

mod support;

use std::time::Instant;

use support::{Postgres, Process, Redis, SECRET, eventually, free_port, get, unique, wait_until};

/// Variables of a process on `redis`, with a prefix of its own and its health on a free port.
fn variables(redis: &str, metrics: &str) -> Vec<(String, String)> {
    [
        ("REDIS_URL", redis.to_owned()),
        ("MILLSTREAM__REDIS__PREFIX", unique("service")),
        ("MILLSTREAM__METRICS__LISTEN", metrics.to_owned()),
        ("MILLSTREAM__EDGE__LISTEN", "127.0.0.1:0".to_owned()),
        ("MILLSTREAM__AUTH__HS256_SECRET", SECRET.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

fn free_addr() -> String {
    format!("127.0.0.1:{}", free_port())
}

/// Ends by itself with this code; what it said.
async fn refused(process: &Process, code: i32) -> String {
    let status = process.status().await;
    assert_eq!(status.code(), Some(code), "{}", process.stderr());
    assert_eq!(process.stdout(), "", "nothing is ready");
    process.stderr()
}

#[tokio::test]
async fn a_process_waits_for_redis_and_says_so() {
    let (redis, addr) = (Redis::start(&[]).await, free_addr());
    redis.kill9();
    let process = Process::spawn("callback", &[], &variables(&redis.url(), &addr));
    wait_until("alive", async || get(&addr, "/livez", &[]).await.0 == 200).await;
    let (status, body) = eventually("the reason", async || {
        let (status, body) = get(&addr, "/readyz", &[]).await;
        body.contains("connect").then_some((status, body))
    })
    .await;
    assert_eq!(status, 503);
    assert!(body.starts_with("{\"ready\":false,") && body.contains("\"start\":{\"ready\":false,\"why\""), "{body}");
    assert_eq!(process.stdout(), "");

    redis.start_again().await;
    assert_eq!(process.ready().await, ["callback", addr.as_str()]);
    assert_eq!(get(&addr, "/readyz", &[]).await.0, 200);

    redis.freeze();
    wait_until("not ready", async || get(&addr, "/readyz", &[]).await.0 == 503).await;
    assert_eq!(get(&addr, "/livez", &[]).await.0, 200);
    redis.thaw();
    wait_until("ready again", async || get(&addr, "/readyz", &[]).await.0 == 200).await;
    assert_eq!(process.stop().await.code(), Some(0), "{}", process.stderr());
}

#[tokio::test]
async fn a_process_that_waits_for_redis_can_be_stopped() {
    let addr = free_addr();
    let process = Process::spawn("edge", &[], &variables(&format!("redis://{}", free_addr()), &addr));
    wait_until("alive", async || get(&addr, "/livez", &[]).await.0 == 200).await;
    let begin = Instant::now();
    assert_eq!(process.stop().await.code(), Some(0), "{}", process.stderr());
    assert!(begin.elapsed().as_secs() < 5);
    assert_eq!(process.stdout(), "");
}

#[tokio::test]
async fn health_and_metrics_are_all_there_is_on_their_listener() {
    let (redis, postgres, addr) = (Redis::shared().await, Postgres::shared().await, free_addr());
    let mut variables = variables(&redis.url(), &addr);
    variables.push(("DATABASE_URL".into(), postgres.database().await.url));
    let process = Process::spawn("replay", &[], &variables);
    process.ready().await;
    let (status, body) = get(&addr, "/metrics", &[]).await;
    assert_eq!(status, 200);
    for line in ["millstream_durability_verified 1", "millstream_build_info{version=", "# HELP millstream_ready "] {
        assert!(body.contains(line), "{line} is not in\n{body}");
    }
    for path in ["/", "/metrics/", "/readyz/x", "/openapi.json"] {
        assert_eq!(get(&addr, path, &[]).await.0, 404, "{path}");
    }
    assert_eq!(process.stop().await.code(), Some(0), "{}", process.stderr());
}

#[tokio::test]
async fn all_mistakes_of_the_settings_are_told_before_anything_happens() {
    let mut variables = variables("redis://127.0.0.1:1", "127.0.0.1:0");
    variables.push(("MILLSTREAM__ARCHIVE__MAX_ROWZ".into(), "7".into()));
    variables.retain(|(name, _)| name != "MILLSTREAM__AUTH__HS256_SECRET");
    let said = refused(&Process::spawn("edge", &["--set", "redis.partitions=0"], &variables), 2).await;
    assert!(said.starts_with("3 mistakes in the settings"), "{said}");
    assert!(said.contains("did you mean MILLSTREAM__ARCHIVE__MAX_ROWS?"), "{said}");
    assert!(said.contains("redis.partitions (--set): 0 given, 1 to 4096 is possible"), "{said}");
    assert!(said.contains("auth.hs256_secret: the edge needs it"), "{said}");
}

#[tokio::test]
async fn an_address_in_use_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let said = refused(&Process::spawn("callback", &[], &variables("redis://127.0.0.1:1", &addr)), 2).await;
    assert!(
        said.contains(&format!("failed to listen on {addr} (metrics.listen): another process listens there already")),
        "{said}"
    );
}

/// `appendfsync everysec` loses what was acknowledged: see facts in docs/guarantees.md.
#[tokio::test]
async fn an_edge_refuses_a_redis_that_would_lose_messages_and_says_what_mends_it() {
    let redis = Redis::start(&["--appendfsync", "everysec", "--maxmemory-policy", "allkeys-lru"]).await;
    let variables = variables(&redis.url(), &free_addr());
    let said = refused(&Process::spawn("edge", &[], &variables), 2).await;
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| line.starts_with("CONFIG SET")).collect();
    assert_eq!(lines, ["CONFIG SET appendfsync always", "CONFIG SET maxmemory-policy noeviction"], "{said}");

    for line in lines {
        redis.command(line.split(' ')).await;
    }
    let edge = Process::spawn("edge", &[], &variables);
    wait_until("it goes on", async || !redis.command(["PUBSUB", "CHANNELS"]).await.list().is_empty()).await;
    assert_eq!(edge.stop().await.code(), Some(0), "{}", edge.stderr());
}

#[tokio::test]
async fn a_redis_that_shows_no_settings_is_used_with_a_warning() {
    let redis = Redis::start(&["--rename-command", "CONFIG", ""]).await;
    let addr = free_addr();
    let process = Process::spawn("callback", &[], &variables(&redis.url(), &addr));
    process.ready().await;
    assert!(process.stderr().contains("can't verify that Redis keeps redis.durability"), "{}", process.stderr());
    assert!(get(&addr, "/metrics", &[]).await.1.contains("millstream_durability_verified 0"));
}

/// With another number of partitions, rooms would be looked for where they are not.
#[tokio::test]
async fn a_log_that_was_made_with_other_partitions_is_refused() {
    let redis = Redis::shared().await;
    let variables = variables(&redis.url(), &free_addr());
    let first = Process::spawn("callback", &[], &variables);
    first.ready().await;
    first.stop().await;
    let said = refused(&Process::spawn("callback", &["--set", "redis.partitions=8"], &variables), 2).await;
    assert!(
        said.contains("it was made with 16 partitions, and redis.partitions is 8; set redis.partitions = 16"),
        "{said}"
    );
}
