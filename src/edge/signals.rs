//! Signals between edges: one queue out, one reader in. Best effort all the way.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::broadcast::SignalFrame;
use super::registry::Registry;
use crate::model::{PartitionId, Partitions, Room, UserId};
use crate::stream::{Redis, SignalReader};
use crate::telemetry::names;

/// Signals that wait to be published; beyond, new ones are dropped.
const QUEUE_MAX: usize = 1_024;

/// A signal as it goes over the channel.
#[derive(Serialize, Deserialize)]
struct Signal {
    edge: String,
    connection: u64,
    room: Room,
    user: String,
    body: String,
}

/// Where connections leave their signals.
pub(super) struct Signals {
    edge: String,
    partitions: Partitions,
    queue: mpsc::Sender<(PartitionId, Vec<u8>)>,
}

impl Signals {
    /// The place, and what is left there.
    pub(super) fn new(edge: &str, partitions: Partitions) -> (Self, mpsc::Receiver<(PartitionId, Vec<u8>)>) {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        (Self { edge: edge.to_owned(), partitions, queue }, waiting)
    }

    pub(super) fn send(&self, room: &Room, user: &UserId, connection: u64, body: &str) {
        let signal = Signal {
            edge: self.edge.clone(),
            connection,
            room: room.clone(),
            user: user.to_string(),
            body: body.to_owned(),
        };
        let encoded = rmp_serde::to_vec(&signal).unwrap_or_default();
        if self.queue.try_send((self.partitions.of(room), encoded)).is_err() {
            metrics::counter!(names::SIGNALS_DROPPED).increment(1);
        }
    }
}

/// Publishes what is left at [`Signals`], until it is dropped.
pub(super) async fn run_out(redis: Redis, mut waiting: mpsc::Receiver<(PartitionId, Vec<u8>)>) {
    while let Some((partition, signal)) = waiting.recv().await {
        if redis.send_signal(partition, signal.into()).await.is_err() {
            metrics::counter!(names::SIGNALS_DROPPED).increment(1);
        }
    }
}

/// Hands what arrives to whoever follows the room, until it is dropped.
pub(super) async fn run_in(edge: String, mut reader: SignalReader, registry: Arc<Registry>) {
    while let Some(payload) = reader.next().await {
        let Ok(signal) = rmp_serde::from_slice::<Signal>(&payload) else { continue };
        if registry.has_receivers(&signal.room) {
            let from = (signal.edge == edge).then_some(signal.connection);
            let frame = Arc::new(SignalFrame::new(signal.room.clone(), signal.user, signal.body));
            registry.signal(&signal.room, from, &frame);
        }
    }
}
