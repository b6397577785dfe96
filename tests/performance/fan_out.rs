//! Deliveries per second against the bare server, and the processor time of a million.

use super::child::Server;
use super::load::{bench, cpu_seconds, figure};
use super::row::{Goal, Row, System};

/// Latest delivery that counts as in time.
const P99_MS: f64 = 50.0;

/// The best of several windows, as far as deliveries come in time: deliveries per second, and processor seconds for a
/// million of them.
async fn best(system: &System, addr: &str, pid: u32, args: &str, windows: &[u32]) -> (f64, f64) {
    let mut best = (0.0, f64::INFINITY);
    for window in windows {
        let before = cpu_seconds(pid);
        let args = format!("fan-out {args} --in-flight {window} --duration {}s --warm-up 1s", system.seconds);
        let report = bench(&system.stack, addr, &args).await;
        let (rate, p99) = (figure(&report, "delivered_per_second"), figure(&report, "delivery_latency.p99_ms"));
        let cpu = (cpu_seconds(pid) - before) / figure(&report, "delivered") * 1e6;
        eprintln!("  {addr} in flight {window}: {rate:.0}/s, p99 {p99:.1} ms, {cpu:.1} s per million");
        if p99 < P99_MS && rate > best.0 {
            best = (rate, cpu);
        }
    }
    best
}

/// 100 rooms of 10 subscribers.
pub(crate) async fn many_rooms(system: &System) -> Vec<Row> {
    let args = "--rooms 100 --subscribers 10";
    let (ours, bare) = both(system, args, &[1, 4, 8, 16, 32]).await;
    vec![
        Row::new("deliveries, 100 rooms × 10, p99 < 50 ms", "/s", ours.0, Some(bare.0), Goal::AtLeast(0.5)),
        Row::new("processor time per million deliveries", "s", ours.1, Some(bare.1), Goal::AtMost(2.0)),
    ]
}

/// One room of 1,000 subscribers.
pub(crate) async fn one_room(system: &System) -> Vec<Row> {
    let (ours, bare) = both(system, "--rooms 1 --subscribers 1000", &[1, 4, 16, 64]).await;
    vec![Row::new("deliveries, 1 room × 1,000, p99 < 50 ms", "/s", ours.0, Some(bare.0), Goal::AtLeast(0.8))]
}

async fn both(system: &System, args: &str, windows: &[u32]) -> ((f64, f64), (f64, f64)) {
    let bare = Server::start("--bare-server").await;
    let theirs = best(system, &bare.addr, bare.pid(), args, windows).await;
    drop(bare);
    let edge = system.stack.process("edge").pid();
    (best(system, system.stack.addr("edge"), edge, args, windows).await, theirs)
}
