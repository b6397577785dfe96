//! Millstream: live messages that do not get lost.
//!
//! A message travels one way, and the modules are that way:
//!
//! ```text
//! socket → protocol → publish → stream → group → { archive, replay, callback }
//! ```
//!
//! A client talks WebSocket to an [`edge`], in the frames of [`protocol`]. What it sends goes through
//! [`publish`] into the log, a set of Redis streams behind [`stream`], and is answered once it is
//! there. Everything else reads the log: edges tail it and deliver; workers read it as consumer
//! groups through [`group`]: [`archive`] writes it to Postgres (behind [`store`]), [`replay`] serves
//! whoever missed something, [`callback`] posts it to HTTP endpoints.
//!
//! A module imports only from a lower rank; equals never import each other:
//!
//! | rank | modules | |
//! |---|---|---|
//! | 0 | [`error`], [`backoff`], [`memory`], [`sockets`], [`fault`] | what can go wrong, also on purpose; arithmetic; no waiting |
//! | 1 | [`model`] | words |
//! | 2 | [`protocol`], [`config`], [`shutdown`], [`verify`] | `protocol` is pure: bytes in, frames out; so is `verify`: a history in, a verdict out |
//! | 3 | [`telemetry`], [`auth`] | as the settings say |
//! | 4 | [`stream`], [`store`] | the doors: only `stream` names fred, only `store` names sqlx |
//! | 5 | [`publish`], [`group`], [`presence`], [`history`] | what to accept; how to hand out and settle; shared state; both doors as one log |
//! | 6 | [`edge`], [`archive`], [`replay`], [`callback`] | only `edge` names tokio-tungstenite, only `callback` the HTTP client |
//! | 7 | [`api`] | looks at everything, owns nothing |
//! | 8 | [`service`] | start, stop and exit codes of one process |
//! | 9 | [`dev`], `bench` | all of it in one process; load from outside |
//! | 10 | [`cli`] | what a person types |
//!
//! `tests/architecture.rs` checks the table.

pub mod api;
pub mod archive;
pub mod auth;
pub mod backoff;
pub mod bench;
pub mod callback;
pub mod cli;
pub mod config;
pub mod dev;
pub mod edge;
pub mod error;
pub mod fault;
pub mod group;
pub mod history;
pub mod memory;
pub mod model;
pub mod presence;
pub mod protocol;
pub mod publish;
pub mod replay;
pub mod service;
pub mod shutdown;
pub mod sockets;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod verify;

pub use error::{Error, Result};
