//! Whatever comes over the wire: each attack gets the answer of the contract, the memory of the edge
//! stays bounded, and a pair of clients beside it goes on as if nothing happened ([`watch`]).

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod floods;
mod frames;
mod handshake;
mod json;
mod memory;
mod msgpack;
mod names;
mod raw;
mod tokens;
mod watch;
