//! The log and the archive read as one: where delivery begins, what is announced, what is never skipped.

#[path = "../support/mod.rs"]
mod support;
mod world;

mod cursors;
mod inboxes;
mod places;
mod sharing;
