//! The client protocol as a client meets it: real processes, real servers, every code.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod connecting;
mod cursors;
mod joining;
mod mends;
mod refusing;
mod slow;
