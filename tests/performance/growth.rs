//! What a message costs while there is more of something: it should cost the same.
//!
//! Its yardstick is itself where there is little. Costs are processor time of edge and Redis, for all that a message
//! causes in them (its group's reads and acknowledgements, and what goes on by itself, such as heartbeats), and the
//! latency at a fixed rate that is far from what is possible. Memory is looked at for being linear: the last of three
//! sizes adds as much for each room, entry or connection as the second did.

use std::time::Duration;

use super::archive::settled;
use super::crowd::Crowd;
use super::load::{bench, cpu_seconds, info, memory_kib, rewritten};
use super::row::{Goal, Row, System};

/// Sends per second, each to one receiver: a tenth of what two cores can do, so that a cost is a cost and not a queue.
const PER_SECOND: u32 = 2_000;
/// What counts as flat, and as linear.
const FLAT: f64 = 1.5;
/// Rooms of which a log that grows has its entries.
const LOG_ROOMS: usize = 100;
/// Connections that follow the rooms when these become many; each may follow a thousand.
const FOLLOWERS: usize = 200;
/// Followers and their rooms beside a log that grows.
const BESIDE: usize = 100;
/// `edge.cursor_interval` and a little: what an edge knows of cursors is in Redis then.
const CURSORS: Duration = Duration::from_secs(6);

/// What there is more of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Growing {
    /// Rooms, each followed by one of 200 connections.
    Rooms,
    /// Entries of the log.
    Log,
    /// Connections, each with a room of its own.
    Connections,
}

impl Growing {
    fn name(self) -> &'static str {
        match self {
            Self::Rooms => "rooms",
            Self::Log => "entries",
            Self::Connections => "connections",
        }
    }

    /// Little, more, much. The edge and this process may each have 20,000 files open on the machine of the figures.
    fn sizes(self) -> [usize; 3] {
        match self {
            Self::Rooms => [100, 10_000, 100_000],
            Self::Log => [10_000, 100_000, 1_000_000],
            Self::Connections => [100, 1_000, 10_000],
        }
    }

    async fn grow(self, system: &System, crowd: &mut Crowd, from: usize, to: usize) {
        match self {
            Self::Rooms => crowd.follow(FOLLOWERS, to).await,
            Self::Connections => crowd.follow(to, to).await,
            Self::Log => {
                let messages = (to - from) / LOG_ROOMS;
                let args = format!("catch-up --publish-only --rooms {LOG_ROOMS} --messages {messages}");
                bench(&system.stack, system.stack.addr("edge"), &args).await;
            }
        }
    }
}

/// What a message costs.
struct Cost {
    processor_micros: f64,
    p50_ms: f64,
}

/// KiB in use.
struct Memory {
    redis: f64,
    edge: f64,
}

pub(crate) async fn measure(system: &System, growing: Growing) -> Vec<Row> {
    let [small, middle, large] = growing.sizes();
    let mut crowd = Crowd::new(system.stack.addr("edge")).await;
    if growing == Growing::Log {
        crowd.follow(BESIDE, BESIDE).await;
    }
    growing.grow(system, &mut crowd, 0, small).await;
    let cheap = cost(system, &mut crowd, growing, small).await;
    let mut memory = vec![memory_in_use(system).await];
    for (from, to) in [(small, middle), (middle, large)] {
        growing.grow(system, &mut crowd, from, to).await;
        memory.push(memory_in_use(system).await);
    }
    let dear = cost(system, &mut crowd, growing, large).await;
    let name = growing.name();
    let what = |what: &str| format!("{what}, {large} {name} against {small}");
    let flat = Goal::AtMost(FLAT);
    let mut rows = vec![
        Row::new(
            &what("processor time of edge and Redis per message"),
            "µs",
            dear.processor_micros,
            Some(cheap.processor_micros),
            flat,
        ),
        Row::new(&what("delivery p50 at 2,000 sends/s"), "ms", dear.p50_ms, Some(cheap.p50_ms), flat),
    ];
    // By the growth between two sizes, so that what a process has anyway counts for nobody.
    let each = |of: fn(&Memory) -> f64, at: usize, more: usize| (of(&memory[at]) - of(&memory[at - 1])) / more as f64;
    let mut linear = |whose: &str, of: fn(&Memory) -> f64| {
        let what = format!("memory of {whose} for each of {large} {name} against {middle}");
        let (last, first) = (each(of, 2, large - middle), each(of, 1, middle - small));
        rows.push(Row::new(&what, "KiB", last, Some(first), flat));
    };
    linear("Redis", |memory| memory.redis);
    if growing != Growing::Log {
        linear("the edge", |memory| memory.edge);
    }
    rows
}

async fn cost(system: &System, crowd: &mut Crowd, growing: Growing, size: usize) -> Cost {
    // Nothing of the growth is left to do, and a second of the load is behind it.
    memory_in_use(system).await;
    crowd.send(PER_SECOND, 1).await;
    let (edge, redis) = (system.stack.process("edge").pid(), redis_pid(system).await);
    let used = || [cpu_seconds(edge), cpu_seconds(redis)];
    let before = used();
    let latencies = crowd.send(PER_SECOND, system.seconds).await;
    let after = used();
    let count = latencies.len() as f64;
    let [of_edge, of_redis] = [0, 1].map(|at| (after[at] - before[at]) / count * 1e6);
    let p50_ms = latencies[latencies.len() / 2];
    eprintln!("  {size} {}: edge {of_edge:.1} µs, Redis {of_redis:.1} µs, p50 {p50_ms:.2} ms", growing.name());
    Cost { processor_micros: of_edge + of_redis, p50_ms }
}

/// Once everything is archived, all cursors are written, and what Redis wrote in the growth is rewritten.
async fn memory_in_use(system: &System) -> Memory {
    loop {
        settled(system).await;
        rewritten(system).await;
        let before = info(system, "memory", "used_memory:").await;
        tokio::time::sleep(CURSORS).await;
        let after = info(system, "memory", "used_memory:").await;
        if (after - before).abs() < before / 100.0 {
            return Memory { redis: after / 1024.0, edge: memory_kib(system.stack.process("edge").pid()) };
        }
    }
}

async fn redis_pid(system: &System) -> u32 {
    info(system, "server", "process_id:").await as u32
}
