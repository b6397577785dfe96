//! What an attack must not touch: the memory of the edge, and the connections beside it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;
use tokio::sync::oneshot;

use crate::support::{Client, Format, Stack, unique, wait_until};

/// Growth of the edge that no attack explains: allocators keep what they had, and the edge of a test
/// is built without optimisation.
pub(crate) const SLACK: u64 = 24 << 20;

/// Runs an attack on the first edge while two clients of it write to each other. All they send must
/// arrive, once and in order, before, during and after it; the edge's memory must never have grown by
/// more than `growth_max` bytes.
pub(crate) async fn beside<T>(stack: &Stack, growth_max: u64, attack: impl Future<Output = T>) -> T {
    let pid = stack.process("edge").pid();
    let mut pair = Pair::begin(stack).await;
    for _ in 0..5 {
        pair.exchange().await;
    }
    let before = resident(pid);
    let peak = Arc::new(AtomicU64::new(before));
    let (stop, mut stopped) = oneshot::channel::<()>();
    let seen = peak.clone();
    let exchanging = tokio::spawn(async move {
        let mut during = 0;
        while stopped.try_recv().is_err() {
            pair.exchange().await;
            during += 1;
            seen.fetch_max(resident(pid), Ordering::Relaxed);
            // The pair is there to be disturbed, not to disturb.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        (pair, during)
    });
    let result = attack.await;
    let _ = stop.send(());
    let (mut pair, during) = exchanging.await.expect("the clients beside the attack are served");
    assert!(during > 0, "nothing was sent beside the attack");
    for _ in 0..5 {
        pair.exchange().await;
    }
    pair.assert_whole();
    let peak = peak.load(Ordering::Relaxed).max(resident(pid));
    let growth = peak.saturating_sub(before);
    assert!(growth <= growth_max, "the edge grew by {growth} bytes, from {before}; at most {growth_max} are fine");
    assert_eq!(stack.process("edge").try_status(), None, "the edge lives");
    result
}

/// Waits until the edge has no more than this many connections open.
pub(crate) async fn connections_at_most(stack: &Stack, count: f64) {
    let names = [r#"millstream_connections{protocol="json"}"#, r#"millstream_connections{protocol="msgpack"}"#];
    wait_until("the connections have ended", async || {
        let mut open = 0.0;
        for name in names {
            open += stack.metric("edge", name).await;
        }
        open <= count
    })
    .await;
}

/// Two clients that write to each other.
struct Pair {
    room: String,
    json: Client,
    msgpack: Client,
    sent: u64,
}

impl Pair {
    async fn begin(stack: &Stack) -> Self {
        let room = unique("beside");
        let mut json = stack.client_at("edge", Format::Json, &unique("json"), "d").await;
        let mut msgpack = stack.client_at("edge", Format::MsgPack, &unique("msgpack"), "d").await;
        json.join(&room, json!("start")).await;
        msgpack.join(&room, json!("start")).await;
        Self { room, json, msgpack, sent: 0 }
    }

    /// One message each way; both see both.
    async fn exchange(&mut self) {
        for from_json in [true, false] {
            self.sent += 1;
            let (cid, body) = (format!("c{}", self.sent), json!(self.sent));
            let sender = if from_json { &mut self.json } else { &mut self.msgpack };
            let sent = sender.send_until_sent(&self.room, &cid, body).await;
            assert_eq!(sent["seq"], self.sent, "{sent}");
        }
        self.json.delivered_up_to(&self.room, self.sent).await;
        self.msgpack.delivered_up_to(&self.room, self.sent).await;
    }

    fn assert_whole(&self) {
        let expected: Vec<_> = (1..=self.sent).map(|n| json!(n)).collect();
        assert_eq!(self.json.bodies(&self.room), expected);
        assert_eq!(self.msgpack.bodies(&self.room), expected);
    }
}

/// Memory of a process that is in use, in bytes.
pub(crate) fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or_default();
    kib << 10
}
