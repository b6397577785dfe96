//! Endpoints that are away, slow, wrong or hostile, against the real callback worker: the other endpoint
//! gets everything meanwhile, the worker's memory stays bounded, and once the endpoint is mended it has
//! everything too, in order per room, with the same id and the same bytes on every attempt.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod certificate;
mod endpoint;
mod holding;
mod https;
mod secured;
mod silent;
mod world;
