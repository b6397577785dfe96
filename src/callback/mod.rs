//! Calls HTTP endpoints back: each message and event, signed, in order per room, until accepted.
//!
//! An endpoint is a consumer group of its own, `callback:<name>`: it has its position, its limits,
//! its breaker and its dead letters, and what happens to it delays no other endpoint. The way of
//! an entry through this module is the order of its files:
//!
//! ```text
//! worker → lanes (order) → dispatch (attempts) → gate (pause, breaker) → caller (HTTP) → guard (addresses)
//! ```
//!
//! Delivery is at least once: a crash between an endpoint's answer and our acknowledgement repeats
//! the item, with the same bytes and the same `webhook-id`, by which a receiver drops what it has.
//!
//! **Invariant:** an item of a room is attempted only after the one before it was settled.
//!
//! **Invariant:** what is not the endpoint's doing uses up none of an item's attempts.
//!
//! # Design
//! An item that waits for its next attempt stays in memory and pending in Redis, with its room's
//! later items behind it; it isn't handed back to the group's retries, because those know neither
//! order nor `Retry-After`. Attempts are written down beside the group, so that a restart goes on
//! counting where it was.
//!
//! The breaker counts failures of all rooms together: ten in a row are the endpoint's fault and not
//! a message's. A probe is an attempt like any other, so even a dead endpoint's items end in the
//! dead letters one day, but slowly: what waits is still in the log.
//!
//! Batches (`chat_history`, `session_history`, `periodic_sync`) get a place of their own beside
//! `lanes`: what they post is sealed by several entries and not made of one, and everything from
//! `dispatch` on serves them as it is.

mod breaker;
mod caller;
mod clock;
mod dispatch;
mod endpoint;
mod gate;
mod guard;
mod held;
mod item;
mod lanes;
mod ledger;
mod probe;
mod retry;
mod signature;
mod standing;
mod trust;
mod worker;

#[cfg(test)]
mod tests;

pub use probe::{Probe, probe};
pub use retry::retry_after;
pub use standing::{forget, pause, paused_at, resume, waits_until};
pub use worker::run;
