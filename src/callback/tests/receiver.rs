//! `scripts/receiver.py`: what people test their senders and secrets with has to be right.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use super::*;

struct Script {
    url: String,
    lines: Lines<BufReader<ChildStdout>>,
    _process: Child,
}

impl Script {
    async fn start(options: &[&str]) -> Self {
        let mut process = Command::new("python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/receiver.py"))
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("python3 is installed");
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ready = tokio::time::timeout(DEADLINE, lines.next_line()).await.expect("it starts").unwrap().unwrap();
        let url = format!("http://{}/hook", ready.strip_prefix("ready ").unwrap());
        Self { url, lines, _process: process }
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(DEADLINE, self.lines.next_line()).await.expect("something is accepted");
        serde_json::from_str(&line.unwrap().expect("it is running")).unwrap()
    }
}

#[tokio::test]
async fn it_accepts_what_is_signed_and_says_what_it_was() {
    let misbehave = ["--secret", SECRET, "--fail-first", "1", "--drop-after-body", "1", "--ordered"];
    let mut script = Script::start(&misbehave).await;
    let mut bench = Bench::new(endpoint(&script.url));
    bench.give(vec![message("a", 1), message("a", 2), event("a", 2 + 1)]).await;
    bench.all_done(1..=3).await;
    for (n, what) in [(1, "message"), (2, "message"), (3, "user_joined")] {
        let accepted = script.next().await;
        assert_eq!(accepted["id"], format!("msg_3_1700000000000-{n}"));
        assert_eq!((&accepted["body"]["type"], &accepted["verified"]), (&what.into(), &true.into()));
        assert!(accepted["attempt"].as_u64().unwrap() >= 2, "{accepted}");
    }
}

#[tokio::test]
async fn it_refuses_what_is_signed_by_another() {
    let script = Script::start(&["--secret", "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldCBpcyB0aGlz"]).await;
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(0), ..endpoint(&script.url) });
    bench.give(vec![message("a", 1)]).await;
    assert!(bench.parked(1).await.1.contains("HTTP 401"));
}
