//! Faults of Redis, each by itself: whatever it does, nothing that was acknowledged is lost, doubled or
//! reordered, every process goes on by itself afterwards, and clients hear `unavailable` meanwhile.
//!
//! Every test breaks a Redis of its own, while writers write and readers read. What a fault destroys
//! by its nature is announced to whoever had seen it.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod deaths;
mod failover;
mod groups;
mod losses;
mod refusals;
mod world;
