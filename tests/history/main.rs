//! The log and the archive read as one: where delivery begins, what is announced, what is never skipped.

#![expect(clippy::unwrap_used, reason = "tests may fail where they look")]

#[path = "../support/mod.rs"]
mod support;
mod world;

mod alone;
mod cursors;
mod inboxes;
mod places;
mod sharing;
