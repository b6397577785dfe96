//! Whether what a run was told agrees with what it left behind.
//!
//! A [`History`] is what publishers, subscribers, endpoints and a supervisor wrote down, each for
//! itself and on one clock, and the final state of the log and the archive. Pure: no server, no
//! file, no clock of its own, so that a checker can be checked with histories that are made up.

pub mod check;
mod digest;
pub mod history;
mod seen;

pub use check::{Rules, Verdict, Violation, ViolationKind, check};
pub use digest::Digest;
pub use history::{Event, Fact, History, Name};
pub use seen::{Content, Seen, Signal, Wants};
