//! Batches of the archive: entries taken apart into the columns that one transaction writes.

#![allow(clippy::unwrap_used, reason = "in a measurement, what can't be had ends it")]

mod sample;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput};
use millstream::model::Entry;
use millstream::store::Batch;

/// Sizes of `archive.preset` and `archive.bulk_rows`.
const ROWS: [u64; 3] = [50, 500, 5_000];
const ROOMS: u64 = 50;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("columns of a batch");
    for rows in ROWS {
        let of_room = |room: u64| sample::entries(&format!("team/{room}"), rows / ROOMS);
        let entries: Vec<Entry> = (0..ROOMS).flat_map(of_room).collect();
        group.throughput(Throughput::Elements(rows));
        group.bench_with_input(BenchmarkId::from_parameter(rows), &entries, |bencher, entries| {
            bencher.iter(|| Batch::of(black_box(entries)).unwrap().len());
        });
    }
    group.finish();
    criterion.final_summary();
}
