//! The torture test: real processes, real servers, a breakable proxy on every hop, and a nemesis.
//!
//! Publishers write and never give a message up, readers live as devices live, and everybody writes
//! down what they saw. When all is over and drained, `millstream::verify` judges the history. Every
//! choice of chance follows from a seed, which is printed first.
//!
//! Run it by `scripts/torture --seed 1 --seconds 60`; `cargo test` leaves it out.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod collect;
#[cfg(feature = "faults")]
mod controls;
mod drain;
mod endpoint;
#[cfg_attr(not(feature = "faults"), allow(dead_code, reason = "some are for the controls only"))]
mod fault;
mod judge;
mod nemesis;
mod publisher;
mod recorder;
mod run;
mod seen;
mod subscriber;
mod supervisor;
mod wire;

use std::time::Duration;

use self::run::{Options, run};

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// What is acknowledged is not lost, doubled or reordered, whatever dies.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promises_hold_whatever_dies() {
    let seed = number("MILLSTREAM_TORTURE_SEED").unwrap_or_else(rand::random);
    let seconds = number("MILLSTREAM_TORTURE_SECONDS").unwrap_or(60);
    println!(
        "torture: seed {seed}, {seconds} s of faults; again with scripts/torture --seed {seed} --seconds {seconds}"
    );
    let run = run(Options::new(seed, Duration::from_secs(seconds))).await;
    assert!(judge::tell(&run, seed, &judge::judge(&run, &judge::REQUIRED)), "the verdict is not valid");
}
