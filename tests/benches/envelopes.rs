//! Envelopes: what an edge puts into the log once per message, and what everybody who reads the log opens.

#![allow(clippy::unwrap_used, reason = "in a measurement, what can't be had ends it")]

mod sample;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use millstream::model::{Event, Item, Room};
use millstream::publish::mark;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let body = sample::body();
    let joined = Item::Event(Event { event: "user_joined", user: Some("alice"), data: None });
    for (what, item) in [("message", sample::message(&body)), ("event", joined)] {
        let (envelope, kind) = (item.encode(), item.entry_kind());
        let mut group = criterion.benchmark_group(format!("envelope of a {what}"));
        group.throughput(Throughput::Bytes(envelope.len() as u64));
        group.bench_function("encode", |bencher| bencher.iter(|| black_box(&item).encode()));
        group.bench_function("open", |bencher| bencher.iter(|| Item::decode(kind, black_box(&envelope)).unwrap()));
        group.finish();
    }
    // The other thing that happens to each message before it is published.
    let Item::Message(message) = sample::message(&body) else { unreachable!("it is a message") };
    let room = Room::new("team/42").unwrap();
    criterion.bench_function("mark of a message", |bencher| bencher.iter(|| mark(&room, black_box(&message))));
    criterion.final_summary();
}
