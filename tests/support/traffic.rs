//! Writers and readers that go on while something is killed, and the audit afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::{Callback, Device, Format, Reading, Receiver, Stack, wait_until};

/// Rooms of the traffic: more than there are partitions.
pub const ROOMS: [&str; 6] = ["r1", "r2", "r3", "r4", "r5", "r6"];
/// Who writes into each room at the same time.
const WRITERS: usize = 3;
/// An audit of fewer messages would say nothing.
const MESSAGES_MIN: u64 = 100;
/// Wait of a writer between two messages: traffic, not load.
const PACE: Duration = Duration::from_millis(15);

/// Seqs and cids of a room's messages, in order.
type Account = Vec<(u64, String)>;

/// Traffic under way.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    writers: JoinSet<Vec<(&'static str, u64, String)>>,
    edges: Vec<String>,
}

impl Traffic {
    /// Begins to write through these edges.
    pub fn start(stack: &Stack, edges: &[&str]) -> Self {
        let edges: Vec<String> = edges.iter().map(|edge| stack.addr(edge).to_owned()).collect();
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            // Each begins at another edge.
            let mut edges = edges.clone();
            let first = writer % edges.len();
            edges.rotate_left(first);
            writers.spawn(write(edges, writer, stop.clone(), sent.clone()));
        }
        Self { stop, sent, writers, edges }
    }

    /// Waits until this many more messages were accepted.
    pub async fn goes_on(&self, messages: u64) {
        let begin = self.sent.load(Ordering::SeqCst);
        let what = format!("{messages} more messages are accepted");
        wait_until(&what, async || self.sent.load(Ordering::SeqCst) >= begin + messages).await;
    }

    /// Ends the traffic; then acknowledged = log = archive = every reader's account = what the endpoint
    /// got, every room's seqs are dense, and no process has panicked.
    pub async fn audit(mut self, stack: &Stack, readers: Vec<Reading>, receiver: Option<&Receiver>) {
        wait_until("enough was sent to test anything", async || self.sent.load(Ordering::SeqCst) > MESSAGES_MIN).await;
        self.stop.store(true, Ordering::SeqCst);
        let mut acknowledged: BTreeMap<&str, Account> = BTreeMap::new();
        while let Some(written) = self.writers.join_next().await {
            for (room, seq, cid) in written.expect("a writer has no reason to panic") {
                acknowledged.entry(room).or_default().push((seq, cid));
            }
        }
        let mut devices = Vec::new();
        for reader in readers {
            devices.push(reader.device().await);
        }
        // One who comes only now has everything from replay.
        let mut late = Device::new(&self.edges, Format::Json, "late");
        ROOMS.iter().for_each(|room| late.follow(room));
        devices.push(late);
        for (room, account) in &mut acknowledged {
            account.sort();
            assert!(account.iter().map(|(seq, _)| *seq).eq(1..=account.len() as u64), "seqs of {room}: {account:?}");
            assert_eq!(stack.logged(room).await, *account, "the log of {room}");
            assert_eq!(stack.archived_when(room, account.len()).await, *account, "the archive of {room}");
            for (n, reader) in devices.iter_mut().enumerate() {
                assert_eq!(reader.read(room, account.len()).await, *account, "reader {n} of {room}");
            }
            if let Some(receiver) = receiver {
                let what = format!("the endpoint has all of {room}");
                wait_until(&what, async || called_back(receiver, room).len() >= account.len()).await;
                assert_eq!(called_back(receiver, room), *account, "what the endpoint got of {room}");
            }
        }
        stack.assert_no_panic();
    }
}

/// Readers of all rooms in both forms, each beginning at another edge. They read from now on.
pub fn readers(stack: &Stack, edges: &[&str]) -> Vec<Reading> {
    let mut edges: Vec<String> = edges.iter().map(|edge| stack.addr(edge).to_owned()).collect();
    let mut readers = Vec::new();
    for (n, format) in [Format::Json, Format::MsgPack].into_iter().enumerate() {
        let mut reader = Device::new(&edges, format, &format!("reader{n}"));
        ROOMS.iter().for_each(|room| reader.follow(room));
        readers.push(reader.reading());
        edges.rotate_left(1);
    }
    readers
}

async fn write(
    edges: Vec<String>,
    writer: usize,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
) -> Vec<(&'static str, u64, String)> {
    let mut device = Device::new(&edges, Format::Json, &format!("writer{writer}"));
    let mut written = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (room, cid) = (ROOMS[n % ROOMS.len()], format!("w{writer}-{n}"));
        let seq = device.send(room, &cid).await;
        written.push((room, seq, cid));
        sent.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(PACE).await;
    }
    written
}

fn called_back(receiver: &Receiver, room: &str) -> Account {
    let message = |callback: Callback| {
        let callback = callback.json();
        let data = &callback["data"];
        let is_it = callback["type"] == "message" && data["room"] == room;
        is_it.then(|| (data["seq"].as_u64().unwrap(), data["cid"].as_str().unwrap().to_owned()))
    };
    receiver.accepted().into_iter().filter_map(message).collect()
}
