//! More clients than an edge accepts at the moment. Other systems than Linux keep 128 in line, whatever is asked for.

use futures_util::future::try_join_all;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{DEADLINE, Stack};

/// Clients that come at the same moment.
const NEWCOMERS: usize = 400;

/// All who come back after a restart do so at the same moment, faster than they are accepted. Who finds no room in the
/// system's line is tried again by the system after a second, then two, then four.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_who_come_while_an_edge_accepts_nobody_wait_in_line() {
    let stack = Stack::builder().start().await;
    let addr = stack.addr("edge");
    stack.process("edge").signal("STOP");
    let coming = (0..NEWCOMERS).map(|_| TcpStream::connect(addr));
    let connected = timeout(DEADLINE, try_join_all(coming)).await.expect("not all found room").unwrap();
    stack.process("edge").signal("CONT");
    drop(connected);
    let mut alice = stack.client("alice", "phone").await;
    alice.send("chat", "c-1", json!(1)).await;
}
