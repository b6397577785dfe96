//! What a system does to our processes, but for `kill -9` (`tests/e2e/kills.rs`): it freezes them, stops
//! them, starts them too early, lets them run out of files, and sets their clocks wrong. Real processes on real servers.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod api;
#[cfg(target_os = "linux")]
mod clocks;
#[cfg(target_os = "linux")]
mod crowd;
mod files;
mod frozen;
mod starting;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
