//! The client protocol as a client meets it: real processes, real servers, every code.

#[path = "../support/mod.rs"]
mod support;

mod closing;
mod connecting;
mod cursors;
mod joining;
mod refusing;
mod slow;
