//! The edge's inbox: answers of workers, requests of other edges and of the API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::Edge;
use super::control::Control;
use super::outbox::Note;
use super::tail::BLOCK;
use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::{EdgeNote, EntryId};
use crate::stream::{RawEntry, Reader};
use crate::telemetry::Part;

/// Notes of one read.
const READ_NOTES: u64 = 64;
/// How long an inbox lives after its edge was last seen.
pub(super) const INBOX_TTL: Duration = Duration::from_secs(60);
/// Longest wait for an older connection to end, before its device's new edge is told anyway.
const END_WAIT: Duration = Duration::from_secs(5);
/// How often what was read is deleted.
const CLEAR_INTERVAL: Duration = Duration::from_secs(1);

/// Connections that wait for an older one of their device to end on another edge.
#[derive(Default)]
pub(super) struct Replacements {
    waiting: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
}

impl Replacements {
    /// A number for the wait, and what ends it.
    pub(super) fn wait(&self) -> (u64, oneshot::Receiver<()>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (replaced, wait) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, replaced);
        (number, wait)
    }

    /// Nobody waits any more.
    pub(super) fn forget(&self, number: u64) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }

    fn replaced(&self, number: u64) {
        if let Some(waiter) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number) {
            // Whoever waited may have given up.
            let _ = waiter.send(());
        }
    }
}

/// Reads the inbox and does what it says, until it is dropped. The edge's own canary comes back here:
/// `canary` hears of it.
pub(super) async fn run(edge: Arc<Edge>, mut reader: Reader, canary: Part) {
    let key = edge.redis.keys().inbox(&edge.id);
    let mut inbox = Inbox { edge, canary, replacing: JoinSet::new() };
    let mut after = EntryId::ZERO;
    let mut cleared = Instant::now();
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    loop {
        match reader.read(&[(key.clone(), after)], READ_NOTES, BLOCK).await {
            Ok(streams) => {
                backoff.reset();
                for raw in streams.into_iter().flat_map(|(_, entries)| entries) {
                    after = raw.id;
                    inbox.take(&raw);
                }
            }
            Err(error) => {
                if backoff.attempts() == 0 {
                    warn!(%error, "lost the inbox, trying again");
                }
                tokio::time::sleep(backoff.next()).await;
                // A Redis that lost its data numbers from a time that may be before ours.
                after = inbox.end_of(&key).await.unwrap_or(after).min(after);
            }
        }
        while inbox.replacing.try_join_next().is_some() {}
        if cleared.elapsed() >= CLEAR_INTERVAL && after > EntryId::ZERO {
            cleared = Instant::now();
            if let Err(error) = inbox.edge.redis.clear_inbox(&inbox.edge.id, after, INBOX_TTL).await {
                debug!(%error, "could not clear the inbox");
            }
        }
    }
}

struct Inbox {
    edge: Arc<Edge>,
    canary: Part,
    /// Answers to other edges that wait for a connection of ours to end.
    replacing: JoinSet<()>,
}

impl Inbox {
    async fn end_of(&self, key: &str) -> Result<EntryId> {
        Ok(self.edge.redis.newest_id(key).await?.unwrap_or_default())
    }

    fn take(&mut self, raw: &RawEntry) {
        let note = match raw.edge_note() {
            Ok(note) => note,
            Err(error) => return warn!(entry.id = %raw.id, %error, "left out a note that can't be read"),
        };
        let edge = &self.edge;
        match note {
            EdgeNote::Answers(answers) => answers.into_iter().for_each(|answered| edge.asks.answer(answered)),
            EdgeNote::Canary => self.canary.ok(),
            EdgeNote::Replaced { wait } => edge.replacements.replaced(wait),
            EdgeNote::Disconnect { user, device } => {
                for connection in edge.registry.connections(&user, device.as_deref()) {
                    connection.outbox.push(Note::Control(Control::Disconnect));
                }
            }
            EdgeNote::Replace { user, device, connection, reply_to, wait } => {
                let mut older = edge.registry.connections(&user, Some(&device));
                older.retain(|other| other.outbox.connection == connection);
                let edge = edge.clone();
                self.replacing.spawn(async move {
                    for connection in older {
                        connection.outbox.push(Note::Control(Control::Replaced));
                        let _ = tokio::time::timeout(END_WAIT, connection.ended.cancelled()).await;
                    }
                    // Without our word the other edge goes on after a while.
                    let _ = edge.redis.send_to_edge(&reply_to, &EdgeNote::Replaced { wait }).await;
                });
            }
        }
    }
}
