//! Memory of a connection that has joined a room and idles.

use super::child::Server;
use super::load::memory_kib;
use super::row::{Goal, Row, System};
use super::support::{Process, eventually, unique};

const CONNECTIONS: u32 = 10_000;

pub(crate) async fn measure(system: &System) -> Vec<Row> {
    let bare = Server::start("--bare-server").await;
    let theirs = per_connection(system, &bare.addr, bare.pid()).await;
    let ours = per_connection(system, system.stack.addr("edge"), system.stack.process("edge").pid()).await;
    vec![
        Row::new("memory of an idle connection", "KiB", ours, Some(theirs), Goal::AtMost(1.5)),
        Row::new("memory of an idle connection, by itself", "KiB", ours, None, Goal::Below(14.0)),
    ]
}

async fn per_connection(system: &System, addr: &str, pid: u32) -> f64 {
    let before = memory_kib(pid);
    let (count, prefix, url) = (CONNECTIONS.to_string(), unique("b"), format!("ws://{addr}"));
    let args = [
        "bench",
        "connect",
        "--rooms",
        "100",
        "--connections",
        &count,
        "--hold",
        "10m",
        "--prefix",
        &prefix,
        "--url",
        &url,
    ];
    let idle = Process::spawn("millstream", &args, system.stack.env());
    eventually("all connections stand", async || idle.stderr().contains("stand").then_some(())).await;
    (memory_kib(pid) - before) / f64::from(CONNECTIONS)
}
