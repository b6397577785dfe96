//! The modules that are fuzzed, by themselves.
//!
//! # Design
//! They are of the lower ranks and know no socket, no Redis and no Postgres, so they can be built
//! without the rest of the library: with sanitizer and coverage that takes half a minute instead of ten.
//! That this file can be written is a test of that purity; a module that grows an import from above
//! stops it from building.

#![allow(dead_code, reason = "what only the rest of the library uses is unused here")]

#[path = "../../src/backoff.rs"]
pub mod backoff;
#[path = "../../src/config/mod.rs"]
pub mod config;
#[path = "../../src/error.rs"]
pub mod error;
#[path = "../../src/model/mod.rs"]
pub mod model;
#[path = "../../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../../src/callback/retry.rs"]
mod retry;

/// What endpoints say to the callback worker.
pub mod callback {
    pub use super::retry::retry_after;
}

pub use error::{Error, Result};
