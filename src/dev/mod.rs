//! `millstream dev`: all of Millstream in one process, on a Redis and a Postgres of its own.
//!
//! Owns the two servers, the data folder and the first screen. Promises that what it started ends
//! with it, even when it is killed, and that a second start goes on where the first ended.
//!
//! # Design
//! The servers' programs are the system's. Nothing is run in a container and nothing is linked in:
//! what is tried here is what runs in production.

mod args;
mod folder;
mod postgres;
mod profile;
mod programs;
mod redis;
mod run;
mod screen;
mod server;
mod servers;
mod services;

use std::path::Path;

use crate::error::{Error, Kind};

pub use args::DevArgs;
pub use run::run;

/// A file or folder that can't be used.
fn unusable(path: &Path, error: std::io::Error) -> Error {
    Error::new(Kind::Config, format!("use {}", path.display())).caused_by(error)
}
