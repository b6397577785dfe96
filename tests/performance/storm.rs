//! A storm: 5,000 clients with ten rooms each come back to a restarted edge.

use super::load::{ended, figure};
use super::row::{Goal, Row, System};
use super::support::{Process, eventually, unique};

pub(crate) async fn measure(system: &mut System) -> Vec<Row> {
    let (prefix, url) = (unique("b"), format!("ws://{}", system.stack.addr("edge")));
    let args = ["bench", "storm", "--connections", "5000", "--json", "--prefix", &prefix, "--url", &url];
    let storm = Process::spawn("millstream", &args, system.stack.env());
    eventually("the storm is ready", async || storm.stderr().contains("restart the edge").then_some(())).await;
    let before = calls(system).await;
    system.stack.start_again("edge").await;
    ended(&storm).await;
    let report = serde_json::from_str(&storm.stdout()).unwrap();
    let calls = calls(system).await - before;
    vec![
        Row::new(
            "storm, 5,000 clients × 10 rooms, until all are live",
            "s",
            figure(&report, "seconds"),
            None,
            Goal::Below(5.0),
        ),
        Row::new("calls of scripts in the storm, per client of 10 rooms", "", calls / 5_000.0, None, Goal::None),
    ]
}

/// Scripts that Redis was asked to run. Source: Redis docs, INFO, `commandstats`.
async fn calls(system: &System) -> f64 {
    let info = system.stack.redis().command(["INFO", "commandstats"]).await.text();
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls=")).unwrap();
    line.split(',').next().unwrap().parse().unwrap()
}
