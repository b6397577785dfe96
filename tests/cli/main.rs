//! The command line, as a person and a script use it: the real program on real servers.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod on_the_log;
mod replaying;

use support::millstream;
