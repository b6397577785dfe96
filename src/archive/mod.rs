//! Writes the log to Postgres: the group `archive`, and what its owner of a partition does beside.
//!
//! Batches close by rows or age ([`gathering`]); each is one transaction with the checkpoint that
//! covers it ([`crate::store`]); entries are settled after the commit ([`writer`]). Before anything
//! is read, Redis and Postgres are brought in line ([`initialise`]). The owner also keeps the groups'
//! checkpoints, trims the log and makes months ahead ([`caretaker`]).
//!
//! Delivery is at least once, and rows are keyed by room and id: writing one again changes nothing.
//!
//! **Invariant:** nothing is dropped because Postgres is away or slow: the log holds it.
//!
//! # Design
//! Batches of one partition are written one after the other, so the checkpoint is contiguous and a
//! reader may trust it; several partitions are written side by side (`archive.writers`).

mod caretaker;
mod flush;
mod gathering;
mod handler;
mod initialise;
mod run;
mod summary;
#[cfg(test)]
mod testing;
mod writer;

pub use flush::flush;
pub use handler::{ArchiveGroup, ArchiveHandler};
pub use run::run;
