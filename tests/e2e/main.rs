//! The whole way: socket → stream → archive, replay, callback, and back to every device.
//!
//! Real servers, our own programs as processes, real clients. Each test has its own prefix in Redis
//! and its own database.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod edges;
mod kills;
mod lost_replies;
mod retries;
mod whole_way;
