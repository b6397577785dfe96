//! As much of the edge as a delivery needs before a socket is written.

#[path = "../../src/edge/broadcast.rs"]
mod broadcast;
#[path = "../../src/edge/control.rs"]
mod control;
#[path = "../../src/edge/outbox.rs"]
mod outbox;
#[path = "../../src/edge/registry.rs"]
mod registry;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

use self::broadcast::RoomBatch;
use self::outbox::{Note, Outbox, SubscriptionId};
use self::registry::Registry;
use super::model::Room;
use super::protocol::Subprotocol;
use super::sample;

/// `edge.outbox_bytes` by default.
const OUTBOX_BYTES: usize = 1 << 20;

/// The frames of one batch, which are made once whoever receives them.
pub(super) fn encoding(criterion: &mut Criterion) {
    for (name, subprotocol) in [("json", Subprotocol::Json), ("msgpack", Subprotocol::MsgPack)] {
        let mut group = criterion.benchmark_group(format!("frames of a room's batch, {name}"));
        for count in [1, 10, 100] {
            let entries = sample::entries("team/42", count);
            group.throughput(Throughput::Elements(count));
            group.bench_with_input(BenchmarkId::from_parameter(count), &entries, |bencher, entries| {
                let fresh = || RoomBatch::new(entries.clone());
                bencher.iter_batched_ref(fresh, |batch| batch.frames(subprotocol, 0), BatchSize::SmallInput);
            });
        }
        group.finish();
    }
}

/// One batch of one message to all receivers of its room and out of their outboxes again, while many other rooms
/// have a receiver each.
pub(super) fn delivering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliver a message");
    for (receivers, others) in [(1, 100), (1, 100_000), (10, 100), (1_000, 100)] {
        let (registry, outboxes) = registry(receivers, others);
        let batch = Arc::new(RoomBatch::new(sample::entries("team/42", 1)));
        group.throughput(Throughput::Elements(receivers));
        let id = BenchmarkId::new(format!("receivers {receivers}, other rooms"), others);
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                registry.deliver(black_box(&batch));
                outboxes.iter().map(|outbox| taken(outbox)).sum::<usize>()
            });
        });
    }
    group.finish();
}

/// A registry with so many receivers of one room, and other rooms with one each.
fn registry(receivers: u64, others: u64) -> (Registry, Vec<Arc<Outbox>>) {
    let registry = Registry::new();
    let outbox = |connection: u64| Arc::new(Outbox::new(connection, OUTBOX_BYTES));
    let outboxes: Vec<_> = (0..receivers).map(outbox).collect();
    let room = Room::new("team/42").unwrap();
    outboxes.iter().for_each(|outbox| registry.subscribe(&room, SubscriptionId(1), outbox));
    for other in 0..others {
        let room = Room::new(&format!("other/{other}")).unwrap();
        registry.subscribe(&room, SubscriptionId(1), &outbox(receivers + other));
    }
    (registry, outboxes)
}

/// Takes what waits, as a connection does, and gives how many bytes would be written.
fn taken(outbox: &Outbox) -> usize {
    let mut bytes = 0;
    while let Some(Note::Batch(_, batch)) = outbox.pop() {
        bytes += batch.frames(Subprotocol::Json, 0).len();
    }
    bytes
}
