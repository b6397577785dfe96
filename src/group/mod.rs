//! Hands entries of a partition to a [`Handler`] and settles each of them.
//!
//! Owns ownership (leases), reading, retrying, parking and acknowledging; knows nothing of Postgres
//! or HTTP. Delivery is at least once: a crash between effect and acknowledgement repeats the entry,
//! so a handler must be idempotent by entry id.
//!
//! **Invariant:** an entry is acknowledged only after [`Settler::done`], or after it was parked.
//!
//! # Design
//! Retries stay in the pending list instead of being appended again: a copy gets a new id, and
//! every other group on the stream would see it twice.

mod asking;
mod fetch;
mod gaps;
mod giving_up;
mod handler;
mod handling;
mod lane;
mod partition;
mod pending;
mod position;
mod reading;
mod round;
mod runner;
mod settle;
mod share;
mod stats;
pub mod trim;
mod worker;

pub use handler::{Delivery, Group, Handler, Lease, Settled, Settler};
pub use position::{GroupPosition, Lag, position, positions};
pub use runner::{Runner, RunnerStatus};
