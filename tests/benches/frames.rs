//! Frames of the client protocol: what a client says read, what the edge says written, in both encodings.

#![allow(clippy::unwrap_used, reason = "in a measurement, what can't be had ends it")]

mod sample;

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use millstream::model::EntryId;
use millstream::protocol::{ServerFrame, Subprotocol, append, decode};
use serde_json::json;

const BODY_BYTES_MAX: usize = 32 << 10;
const ENCODINGS: [(&str, Subprotocol); 2] = [("json", Subprotocol::Json), ("msgpack", Subprotocol::MsgPack)];

/// A `send` as a client writes it.
fn send(subprotocol: Subprotocol) -> Vec<u8> {
    let (room, cid, body) = ("team/42", "0192f3a4-1c2d-7e3f-8a4b-5c6d7e8f9a0b", sample::body());
    match subprotocol {
        Subprotocol::Json => {
            format!(r#"{{"type":"send","ref":7,"room":"{room}","cid":"{cid}","body":{body}}}"#).into_bytes()
        }
        Subprotocol::MsgPack => {
            let body: serde_json::Value = serde_json::from_str(&body).unwrap();
            rmp_serde::to_vec(&json!({ "t": "send", "q": 7, "r": room, "c": cid, "b": body })).unwrap()
        }
    }
}

fn decoding(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode a send");
    for (name, subprotocol) in ENCODINGS {
        let payload = send(subprotocol);
        decode(subprotocol, &payload, BODY_BYTES_MAX).unwrap();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| decode(subprotocol, black_box(&payload), BODY_BYTES_MAX).unwrap());
        });
    }
    group.finish();
}

/// Into a buffer that is there, as the edge does it: header and payload behind those of earlier frames.
fn encoding(criterion: &mut Criterion) {
    let entries = sample::entries("team/42", 100);
    let cid = "0192f3a4-1c2d-7e3f-8a4b-5c6d7e8f9a0b";
    let id = EntryId::new(1_700_000_000_000, 0);
    let frames = [
        ("message", ServerFrame::Entry(&entries[0])),
        ("sent", ServerFrame::Sent { request_ref: None, room: "team/42", cid, id, seq: 42, duplicate: false }),
        ("replay of 100", ServerFrame::Replay { room: "team/42", entries: &entries, more: false }),
    ];
    for (what, frame) in frames {
        let mut group = criterion.benchmark_group(format!("encode a {what}"));
        for (name, subprotocol) in ENCODINGS {
            let mut out = Vec::new();
            append(subprotocol, &frame, &mut out).unwrap();
            group.throughput(Throughput::Bytes(out.len() as u64));
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    out.clear();
                    append(subprotocol, black_box(&frame), &mut out).unwrap();
                    black_box(out.len())
                });
            });
        }
        group.finish();
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    decoding(&mut criterion);
    encoding(&mut criterion);
    criterion.final_summary();
}
