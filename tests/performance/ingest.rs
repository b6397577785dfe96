//! Sends accepted by one edge, against the publish script alone, driven by a pipelining client.

use std::time::{Duration, Instant};

use super::load::{bench, figure};
use super::resp::{Pipe, command};
use super::row::{Goal, Row, System};

/// The script that edges publish with.
const SCRIPT: &str =
    concat!(include_str!("../../src/stream/lua/prelude.lua"), include_str!("../../src/stream/lua/publish.lua"));
/// Partitions, devices in each of them, and calls that wait for their reply in each.
const PARTITIONS: usize = 16;
const DEVICES: usize = 4;
const CALLS: usize = 4;

pub(crate) async fn measure(system: &System) -> Vec<Row> {
    let mut script = 0.0_f64;
    for batch in [1, 16, 64] {
        let rate = script_alone(system, batch).await;
        eprintln!("  the script alone, {batch} messages a call: {rate:.0}/s");
        script = script.max(rate);
    }
    let args = format!("ingest --connections 64 --in-flight 64 --duration {}s --warm-up 1s", system.seconds);
    let report = bench(&system.stack, system.stack.addr("edge"), &args).await;
    let ours = figure(&report, "accepted_per_second");
    eprintln!("  accepted {ours:.0}/s, p99 {:.1} ms", figure(&report, "send_latency.p99_ms"));
    vec![Row::new("sends accepted by one edge, 64 × 64 in flight", "/s", ours, Some(script), Goal::AtLeast(0.6))]
}

/// Messages per second with so many in each call.
async fn script_alone(system: &System, batch: usize) -> f64 {
    let redis = system.stack.redis();
    let digest = redis.command([&b"SCRIPT"[..], b"LOAD", SCRIPT.as_bytes()]).await.text();
    for p in 0..PARTITIONS {
        redis.command(["SET", &format!("yard:{{{p}}}:epoch"), "yard"]).await;
    }
    let begin = Instant::now();
    let end = begin + Duration::from_secs(system.seconds);
    let pumping = (0..PARTITIONS).map(|partition| {
        let (digest, addr) = (digest.clone(), redis.addr());
        tokio::spawn(async move {
            let mut pipe = Pipe::connect(&addr).await;
            pipe.pump(CALLS, end, || call(&digest, partition, batch)).await * batch as u64
        })
    });
    let mut messages = 0;
    for pumped in pumping.collect::<Vec<_>>() {
        messages += pumped.await.unwrap();
    }
    messages as f64 / begin.elapsed().as_secs_f64()
}

/// One call of the script, with fresh cids and envelopes of 220 bytes.
fn call(digest: &str, partition: usize, batch: usize) -> Vec<u8> {
    let devices = DEVICES.min(batch);
    let mut args: Vec<Vec<u8>> = vec![b"EVALSHA".to_vec(), digest.into(), (5 + devices).to_string().into_bytes()];
    for name in ["epoch", "log", "seq", "head", "closed"] {
        args.push(format!("yard:{{{partition}}}:{name}").into_bytes());
    }
    args.extend((0..devices).map(|device| format!("yard:{{{partition}}}:dedup:{device}").into_bytes()));
    args.push(devices.to_string().into_bytes());
    args.push(b"2592000000".to_vec());
    // Nothing is known of the log yet.
    args.push(b"0".to_vec());
    args.extend((0..devices).map(|device| format!("user{device}").into_bytes()));
    for n in 0..batch {
        let device = n % devices;
        args.push((device + 1).to_string().into_bytes());
        args.push(format!("room{partition}-{device}").into_bytes());
        // A cid and a content of its own, and a connection without a generation.
        args.push([&rand::random::<[u8; 24]>()[..], &[0; 8]].concat());
        args.push(vec![b'e'; 220]);
    }
    command(&args.iter().map(Vec::as_slice).collect::<Vec<_>>())
}
