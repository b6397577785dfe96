//! The whole way: socket → stream → archive, replay, callback, and back to every device.
//!
//! Real servers, our own programs as processes, real clients. Each test has its own prefix in Redis
//! and its own database.

#[path = "../support/mod.rs"]
mod support;

mod batches;
mod device;
mod edges;
mod kills;
mod lost_replies;
mod retries;
mod traffic;
mod whole_way;
