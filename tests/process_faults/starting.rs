//! A process that starts while Redis is away, or that loses it again while it starts, waits for it.

use crate::support::{Mode, Proxy, Receiver, Redis, Stack, wait_until};

const PROGRAMS: [&str; 5] = ["edge", "archive", "replay", "callback", "api"];
/// Attempts to connect after which whoever would give up has done so: they come ever more slowly.
const ATTEMPTS: u64 = 10;

/// Everything but Redis and Postgres reaches Redis over the proxy, and doesn't wait long for it.
async fn prepare(receiver: &Receiver) -> (Stack, Proxy, String) {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start(redis.addr()).await;
    let builder = Stack::builder().edges(0).workers(&["archive"]).redis(redis);
    let stack = builder.env("DATA_CALLBACK_URL", receiver.url()).start().await;
    let url = format!("redis://{}", proxy.addr());
    (stack, proxy, url)
}

fn settings(url: &str) -> [(&str, &str); 2] {
    [("REDIS_URL", url), ("MILLSTREAM__REDIS__CONNECT_TIMEOUT", "200ms")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_starts_without_redis_waits_for_it() {
    let receiver = Receiver::start().await;
    let (mut stack, proxy, url) = prepare(&receiver).await;
    proxy.set(Mode::Down);
    for program in PROGRAMS {
        stack.add(&format!("late-{program}"), program, &settings(&url));
    }
    for program in PROGRAMS {
        let process = stack.process(&format!("late-{program}"));
        wait_until("it says what it waits for", async || process.stderr().contains("waiting for Redis")).await;
    }
    proxy.set(Mode::Pass);
    for program in PROGRAMS {
        stack.process(&format!("late-{program}")).ready().await;
    }
}

/// A process makes several connections before it serves. Cause: one of the later ones that could not be made
/// in time ended it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_loses_redis_while_it_starts_waits_for_it() {
    let receiver = Receiver::start().await;
    let (mut stack, proxy, url) = prepare(&receiver).await;
    let moments = [("edge", 1..=6), ("archive", 1..=2), ("replay", 1..=2), ("callback", 1..=2), ("api", 1..=2)];
    for (program, connections) in moments {
        for made in connections {
            let name = format!("{program}-{made}");
            let before = proxy.connections();
            stack.add(&name, program, &settings(&url));
            wait_until("it has made so many connections", async || proxy.connections() >= before + made).await;
            proxy.set(Mode::Down);
            let cut = proxy.connections();
            let process = stack.process(&name);
            let gave_up = || process.try_status().is_some();
            wait_until("it tries again", async || proxy.connections() >= cut + ATTEMPTS || gave_up()).await;
            proxy.set(Mode::Pass);
            process.ready().await;
            process.kill9();
        }
    }
}
