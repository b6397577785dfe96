//! Deliveries per second against the bare server, and the processor time of a million.

use super::child::Server;
use super::load::{bench, cpu_seconds, figure};
use super::row::{Goal, Row, System};

/// Latest delivery that counts as in time.
const P99_MS: f64 = 50.0;

/// Deliveries per second between which the limit is looked for.
const RATES: (f64, f64) = (10_000.0, 1_600_000.0);
/// Halvings of that range, by ratio: the limit is known to within a twelfth.
const STEPS: u32 = 6;
/// Deliveries per second, at least, at which the processor's time is compared.
const COMPARED: f64 = 40_000.0;

/// A server under load.
struct Loaded<'a> {
    system: &'a System,
    addr: &'a str,
    pid: u32,
    args: &'a str,
    /// Deliveries of each send.
    fan_out: f64,
}

/// What became of a load.
#[derive(Clone, Copy)]
struct Outcome {
    per_second: f64,
    p99_ms: f64,
    /// Processor seconds for a million deliveries.
    cpu: f64,
}

impl Loaded<'_> {
    /// So many deliveries per second are asked for. The load is an open loop: who falls behind is late for everything
    /// that was planned meanwhile.
    async fn at(&self, rate: f64) -> Outcome {
        let before = cpu_seconds(self.pid);
        let (sends, seconds) = (rate / self.fan_out, self.system.seconds);
        let args = format!("fan-out {} --rate {sends:.0} --duration {seconds}s --warm-up 1s", self.args);
        let report = bench(&self.system.stack, self.addr, &args).await;
        // The processor worked for the warm-up too.
        let delivered = figure(&report, "delivered") * (seconds + 1) as f64 / seconds as f64;
        let outcome = Outcome {
            per_second: figure(&report, "delivered_per_second"),
            p99_ms: figure(&report, "delivery_latency.p99_ms"),
            cpu: (cpu_seconds(self.pid) - before) / delivered * 1e6,
        };
        let Outcome { per_second, p99_ms, cpu } = outcome;
        eprintln!("  {} at {rate:.0}/s: {per_second:.0}/s, p99 {p99_ms:.1} ms, {cpu:.1} s per million", self.addr);
        outcome
    }

    /// The highest rate at which deliveries come in time.
    async fn highest(&self) -> f64 {
        let mut best = 0.0_f64;
        let (mut low, mut high) = RATES;
        for _ in 0..STEPS {
            let rate = (low * high).sqrt();
            let outcome = self.at(rate).await;
            if outcome.p99_ms < P99_MS {
                low = rate;
                best = best.max(outcome.per_second);
            } else {
                high = rate;
            }
        }
        best
    }
}

/// 100 rooms of 10 subscribers.
pub(crate) async fn many_rooms(system: &System) -> Vec<Row> {
    let bare = Server::start("--bare-server").await;
    let (edge, bare) = servers(system, &bare, "--rooms 100 --subscribers 10", 10.0);
    let (ours, theirs) = (edge.highest().await, bare.highest().await);
    // At one rate: the more comes at once, the less each costs.
    let rate = ours.max(COMPARED);
    let (our_cpu, their_cpu) = (edge.at(rate).await.cpu, bare.at(rate).await.cpu);
    vec![
        Row::new("deliveries, 100 rooms × 10, p99 < 50 ms", "/s", ours, Some(theirs), Goal::AtLeast(0.5)),
        Row::new("processor time per million deliveries", "s", our_cpu, Some(their_cpu), Goal::AtMost(2.0)),
    ]
}

/// One room of 1,000 subscribers.
pub(crate) async fn one_room(system: &System) -> Vec<Row> {
    let bare = Server::start("--bare-server").await;
    let (edge, bare) = servers(system, &bare, "--rooms 1 --subscribers 1000", 1_000.0);
    let (ours, theirs) = (edge.highest().await, bare.highest().await);
    vec![Row::new("deliveries, 1 room × 1,000, p99 < 50 ms", "/s", ours, Some(theirs), Goal::AtLeast(0.8))]
}

fn servers<'a>(system: &'a System, bare: &'a Server, args: &'a str, fan_out: f64) -> (Loaded<'a>, Loaded<'a>) {
    let edge = (system.stack.addr("edge"), system.stack.process("edge").pid());
    let loaded = |(addr, pid)| Loaded { system, addr, pid, args, fan_out };
    (loaded(edge), loaded((&bare.addr, bare.pid())))
}
