//! Accepts messages: gathers what many connections send, and writes it into the log.
//!
//! Owns one task per partition; promises that each message gets exactly one answer, and that
//! messages of one sender to one room are written in the order in which they were handed over.
//!
//! **Invariant:** [`Outcome::Accepted`] is said only after Redis has answered, under the durability
//! that the operator chose.
//!
//! # Design
//! A partition has one call to Redis under way at a time; what arrives meanwhile goes with the next.
//! So batches grow with the load by themselves (group commit), and a call without an answer can be
//! repeated before anything later is sent: the cid makes the repeat harmless and the order holds.
//! The alternative, several calls in flight, was left out: a repeat could overtake its successor.

mod gather;
mod known;
mod mark;

pub use gather::{Answer, Job, Outcome, Publisher, Sink};
pub use known::{Known, Witness};
pub use mark::mark;
