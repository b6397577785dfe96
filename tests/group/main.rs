//! The promises of the group runner, against a real Redis.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod bench;
mod losing;
mod owning;
mod settling;
#[path = "../support/mod.rs"]
mod support;
mod trimming;
