//! The door to Postgres: the archive's tables as functions named by facts.
//!
//! Only this module names sqlx. What Postgres says in codes is turned into an
//! [`Error`](crate::Error) with a [`Kind`](crate::error::Kind) in one place, [`failure`].
//!
//! **Invariant:** rows of a partition and the checkpoint that covers them are written by the same
//! transaction, and only by the holder of the partition's latest token. So what is at or before the
//! checkpoint is complete, and a reader that bounds itself by it never sees a gap.
//!
//! # Design
//! Rows go in by `INSERT … SELECT FROM unnest(…) ON CONFLICT DO NOTHING`: one statement for all
//! sizes, idempotent as it stands. COPY is faster only for batches of thousands and stalls 44 ms a
//! statement with sqlx 0.9.0, which doesn't turn off Nagle's algorithm.

mod batch;
mod checkpoints;
mod connection;
mod door;
mod failure;
mod months;
mod pages;
mod range;
mod rooms;
mod rows;
mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use batch::Batch;
pub use checkpoints::{ARCHIVE, Checkpoint, Ownership};
pub use connection::Store;
pub use months::Month;
pub use pages::Slice;
pub use range::Range;
pub use rooms::RoomState;
pub use server::{Server, Tables};
pub use writer::Inserted;
