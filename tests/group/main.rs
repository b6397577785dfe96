//! The promises of the group runner, against a real Redis.

mod bench;
mod owning;
mod settling;
#[path = "../support/mod.rs"]
mod support;
mod trimming;
