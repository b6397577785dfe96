//! The WebSocket edge: lets clients in, writes what they send into the log before it answers, and
//! delivers what it reads back from there.
//!
//! Owns connections and nothing that can't be lost: `kill -9` it at any time. It has no Postgres:
//! what the log alone can't tell comes from the replay workers.
//!
//! **Invariant:** an edge delivers only what it has read back from the log, its own clients'
//! messages too. There is no second path, so there is one order.
//!
//! # Design
//! Catching up is one mechanism: joining with a cursor, a slow reader, a hole seen by the tail and
//! a log that came back different all put a subscription in the same state, which it leaves when
//! replay has met the live tail.

mod accept;
mod asks;
mod broadcast;
mod control;
mod cursors;
mod desk;
mod files;
mod handshake;
mod inbox;
mod limits;
mod measure;
mod outbox;
mod pulse;
mod recent;
mod registry;
mod session;
mod signals;
mod start;
mod tail;
mod watch;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::files::own_files;
pub use self::start::run;

use self::asks::Asks;
use self::cursors::Cursors;
use self::desk::Desks;
use self::inbox::Replacements;
use self::limits::Limits;
use self::measure::Measures;
use self::pulse::Pulse;
use self::registry::Registry;
use self::signals::Signals;
use self::tail::Tail;
use crate::auth::{Claims, Verifier};
use crate::config::Settings;
use crate::model::Partitions;
use crate::protocol::Subprotocol;
use crate::publish::Publisher;
use crate::shutdown::Shutdown;
use crate::stream::Redis;

/// What all connections of an edge share.
struct Edge {
    id: String,
    settings: Arc<Settings>,
    partitions: Partitions,
    redis: Redis,
    verifier: Verifier,
    publisher: Publisher,
    registry: Arc<Registry>,
    tail: Arc<Tail>,
    asks: Arc<Asks>,
    desks: Arc<Desks>,
    cursors: Arc<Cursors>,
    signals: Signals,
    replacements: Replacements,
    pulse: Pulse,
    limits: Limits,
    metrics: Measures,
    connections: AtomicU64,
    shutdown: Shutdown,
}

/// What the handshake has found out.
struct Greeting {
    subprotocol: Subprotocol,
    claims: Option<Claims>,
}

impl Edge {
    /// A number for a connection, never used twice by this edge.
    fn next_connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// When a client is to come back after this edge has stopped: spread, so that they don't all at once.
    fn reconnect_after(&self) -> Duration {
        self.settings.edge.reconnect_spread.mul_f64(rand::random_range(0.0..=1.0))
    }
}

/// Milliseconds since the epoch, by this machine's clock.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
