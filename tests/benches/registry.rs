//! Live entries on their way to the receivers of a room: encoded once, put into each outbox, taken out.
//!
//! These parts of the edge are nobody else's business, so the library doesn't show them. They are built here once
//! more, from their own files: what is measured is the code that runs, compiled with this program.

#![allow(clippy::unwrap_used, reason = "in a measurement, what can't be had ends it")]

#[allow(dead_code, reason = "of these parts only the way of a live entry is measured")]
mod edge;
mod sample;

// By these names the files below find the rest of the library.
use millstream::{fault, model, protocol, publish};

fn main() {
    let mut criterion = criterion::Criterion::default().configure_from_args();
    edge::encoding(&mut criterion);
    edge::delivering(&mut criterion);
    criterion.final_summary();
}
