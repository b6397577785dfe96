//! Postgres dies, freezes, refuses or lies while messages are published: publishing and live delivery
//! go on, the log holds what can't be archived, and afterwards each row is there once.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod committing;
mod dying;
mod refusing;
mod rows;
mod world;
