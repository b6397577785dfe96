//! Load by `millstream bench`, and what a process used for it.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::row::System;
use super::support::{Process, Stack, unique, wait_until};

/// Longest load: filling a log with a million messages is one too.
const LONGEST: Duration = Duration::from_secs(300);

/// Puts a load on the edge at `addr`; its report. A load that finds anything wrong ends the run.
pub(crate) async fn bench(stack: &Stack, addr: &str, args: &str) -> Value {
    let prefix = unique("b");
    let url = format!("ws://{addr}");
    let args: Vec<&str> = ["bench"].into_iter().chain(args.split(' ')).collect();
    let target = ["--json", "--url", &url];
    let own = ["--prefix", &prefix];
    let all = args.iter().chain(&target).chain(own.iter().filter(|_| !args.contains(&"--prefix")));
    let load = Process::spawn("millstream", &all.copied().collect::<Vec<_>>(), stack.env());
    ended(&load).await;
    serde_json::from_str(&load.stdout()).unwrap()
}

/// Waits until a load has ended well.
pub(crate) async fn ended(load: &Process) {
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = load.try_status() {
            break status;
        }
        assert!(begin.elapsed() < LONGEST, "{}", load.stderr());
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(status.success(), "{}\n{}", load.stdout(), load.stderr());
}

/// A figure of a report, by its path: `delivery_latency.p99_ms`.
pub(crate) fn figure(report: &Value, path: &str) -> f64 {
    let value = path.split('.').fold(report, |value, name| &value[name]);
    value.as_f64().unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// Seconds of processor time that a process has used. Source: proc(5), `utime` and `stime`.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // The third field of the manual is the first here; the clock ticks a hundred times a second.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

/// Resident memory of a process in KiB. Source: proc(5), `VmRSS`.
pub(crate) fn memory_kib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// A figure of Redis. Source: Redis docs, INFO.
pub(crate) async fn info(system: &System, section: &str, name: &str) -> f64 {
    let info = system.stack.redis().command(["INFO", section]).await.text();
    info.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse().unwrap()
}

/// Waits until Redis has rewritten its append-only file, which it does after a log has grown and which takes a core.
pub(crate) async fn rewritten(system: &System) {
    let is_rewritten = async || info(system, "persistence", "aof_rewrite_in_progress:").await == 0.0;
    wait_until("Redis has rewritten its file", is_rewritten).await;
}
