//! Latency of a delivery at 1,000 sends per second to ten subscribers each, against a bare XADD that an XREAD waits for.

use std::time::{Duration, Instant};

use super::load::{bench, figure};
use super::resp::{Pipe, command};
use super::row::{Goal, Row, System};

const PER_SECOND: u32 = 1_000;

pub(crate) async fn measure(system: &System) -> Vec<Row> {
    let mut bare = round_trips(system).await;
    bare.sort_by(f64::total_cmp);
    let at = |quantile: f64| bare[((bare.len() - 1) as f64 * quantile) as usize];
    let args = format!("fan-out --rooms 100 --subscribers 10 --rate {PER_SECOND} --duration {}s", system.seconds);
    let report = bench(&system.stack, system.stack.addr("edge"), &args).await;
    let ours = |quantile: &str| figure(&report, &format!("delivery_latency.{quantile}_ms"));
    let what = |quantile: &str| format!("delivery at 1,000 sends/s × 10, {quantile}");
    vec![
        Row::new(&what("p50"), "ms", ours("p50"), Some(at(0.5)), Goal::AtMost(2.0)),
        Row::new(&what("p99"), "ms", ours("p99"), Some(at(0.99)), Goal::AtMost(3.0)),
    ]
}

/// Milliseconds from the planned time of each XADD to the XREAD that brings it.
async fn round_trips(system: &System) -> Vec<f64> {
    let addr = system.stack.redis().addr();
    let total = u64::from(PER_SECOND) * system.seconds;
    let begin = Instant::now() + Duration::from_millis(100);
    let planned = move |n: u64| begin + Duration::from_secs(1) / PER_SECOND * u32::try_from(n).unwrap();
    let reading = tokio::spawn({
        let addr = addr.clone();
        async move {
            let mut pipe = Pipe::connect(&addr).await;
            let mut latencies = Vec::new();
            while (latencies.len() as u64) < total {
                // Where it stands is counted in the id's second part, so the reply need not be read.
                let after = format!("1-{}", latencies.len());
                let read = ["XREAD", "BLOCK", "1000", "STREAMS", "yard:trips", &after];
                pipe.write(&command(&read.map(str::as_bytes))).await;
                let entries = pipe.entries().await;
                let now = Instant::now();
                for _ in 0..entries {
                    latencies.push((now - planned(latencies.len() as u64)).as_secs_f64() * 1e3);
                }
            }
            latencies
        }
    });
    // A thread of its own, as the load's pacer: the runtime's timers count milliseconds.
    let (plan, mut due) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for n in 0..total {
            std::thread::sleep(planned(n).saturating_duration_since(Instant::now()));
            if plan.send(n).is_err() {
                return;
            }
        }
    });
    let mut pipe = Pipe::connect(&addr).await;
    let value = vec![b'x'; 220];
    while let Some(n) = due.recv().await {
        let mut out = add(n, &value);
        let mut count = 1;
        while let Ok(n) = due.try_recv() {
            out.extend(add(n, &value));
            count += 1;
        }
        pipe.write(&out).await;
        for _ in 0..count {
            pipe.reply().await;
        }
    }
    reading.await.unwrap()
}

fn add(n: u64, value: &[u8]) -> Vec<u8> {
    command(&[b"XADD", b"yard:trips", format!("1-{}", n + 1).as_bytes(), b"e", value])
}
