//! Millstream on a Redis Cluster: what holds on one Redis holds there, also while slots move and masters die.
//!
//! Three masters, a replica of each, real processes. The four partitions of a test are on all three.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod breaking;
mod looking;
mod whole_way;

use support::{Cluster, Receiver, Stack, StackBuilder};

/// The whole system on this cluster; short leases, so that a successor takes over within the test's patience.
fn builder(cluster: &Cluster, receiver: &Receiver) -> StackBuilder {
    Stack::builder()
        .edges(2)
        .data_callback(&receiver.url())
        .redis(cluster.door())
        .redis_url(cluster.url())
        .env("MILLSTREAM__GROUP__LEASE_TTL", "2s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__ARCHIVE__MAX_DELAY", "100ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
}
