//! The replay worker: takes the requests of edges and writes the answers into their inboxes.
//!
//! Owns how requests are put together and answers are packed. What an answer says is
//! [`history`](crate::history)'s business. All requests of a partition that wait are answered
//! together, so that they share one reading of the log; the same question of many connections is
//! answered once.
//!
//! Answers are idempotent: a crash between answer and acknowledgement repeats the answer, and an edge
//! ignores the second one. A request that is too old is dropped, because its edge has asked again.
//!
//! **Invariant:** a request is settled only after its answer is in the edge's inbox, or when nobody
//! waits for it any more.

mod book;
mod worker;

pub use self::worker::{ReplayGroup, Replayer};

/// The name of the group.
pub const GROUP: &str = "replay";
