//! The group `replay`: from a batch of requests to answers in inboxes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::join_all;
use tracing::{debug, warn};

use super::book::Book;
use crate::error::{Error, Kind, Result};
use crate::group::{Delivery, Group, Handler, Lease, Settler};
use crate::history::History;
use crate::model::{Answer, EdgeNote, EntryId, PartitionId, Requests};
use crate::stream::{Keys, Redis};
use crate::telemetry::names;

/// A request this old has been asked again, or its client is gone: edges wait 15 s by default.
const REQUEST_AGE_MAX: Duration = Duration::from_secs(60);

/// The consumer group of the replay workers, on the streams of requests.
pub struct ReplayGroup {
    redis: Redis,
    history: Arc<History>,
}

impl ReplayGroup {
    /// The group that answers from `history` over `redis`.
    pub fn new(redis: Redis, history: History) -> Self {
        Self { redis, history: Arc::new(history) }
    }
}

impl Group for ReplayGroup {
    type Handler = Replayer;

    fn name(&self) -> &str {
        super::GROUP
    }

    fn stream(&self, keys: &Keys, partition: PartitionId) -> String {
        keys.replay(partition)
    }

    fn takes_redeliveries(&self) -> bool {
        false
    }

    async fn start(&self, _partition: PartitionId) -> Result<EntryId> {
        // Requests that were asked before the first worker came are waiting still.
        Ok(EntryId::ZERO)
    }

    async fn open(&self, lease: Lease, settler: Settler) -> Result<Replayer> {
        let (redis, history) = (self.redis.clone(), Arc::clone(&self.history));
        Ok(Replayer { partition: lease.partition, redis, history, settler })
    }
}

/// Answers the requests of one partition.
pub struct Replayer {
    partition: PartitionId,
    redis: Redis,
    history: Arc<History>,
    settler: Settler,
}

impl Handler for Replayer {
    /// Dropped at an await, nothing is lost: what was not settled is delivered again, and an answer
    /// that was given twice is ignored by its edge.
    async fn handle(&mut self, batch: Vec<Delivery>) {
        let started = Instant::now();
        let batch = self.without_stale(batch).await;
        let mut book = Book::default();
        let mut waiting: Vec<(String, Delivery)> = Vec::new();
        for delivery in batch {
            match decode(&delivery) {
                Ok(requests) => {
                    waiting.push((requests.edge.clone(), delivery));
                    book.add(requests);
                }
                Err(error) => self.settler.park(delivery, "corrupt", error.to_string()),
            }
        }
        if waiting.is_empty() {
            return;
        }
        metrics::histogram!(names::REPLAY_BATCH_REQUESTS).record(book.len() as f64);
        for (kind, requests) in book.kinds() {
            metrics::counter!(names::REPLAY_REQUESTS, "kind" => kind).increment(requests);
        }
        let Some(answers) = self.answers(&book).await else {
            waiting.into_iter().for_each(|(_, delivery)| self.settler.retry(delivery));
            return;
        };
        let failed = self.send(book.notes(answers)).await;
        for (edge, delivery) in waiting {
            if failed.contains(&edge) { self.settler.retry(delivery) } else { self.settler.done(delivery) }
        }
        metrics::histogram!(names::REPLAY_SECONDS).record(started.elapsed());
    }

    async fn close(self, _grace: Duration) {
        // Nothing is held between two calls.
    }
}

impl Replayer {
    /// Drops the requests that nobody waits for any more.
    async fn without_stale(&self, batch: Vec<Delivery>) -> Vec<Delivery> {
        let age_max = u64::try_from(REQUEST_AGE_MAX.as_millis()).unwrap_or(u64::MAX);
        let oldest = batch.iter().map(|delivery| delivery.id.ms).min().unwrap_or_default();
        if oldest.saturating_add(age_max) >= local_ms() {
            return batch;
        }
        // Ids are of Redis' clock: ours may be wrong, and must not make every request look old.
        let now = self.redis.time_ms(&self.redis.keys().replay(self.partition)).await.unwrap_or(oldest);
        let (stale, fresh) = batch.into_iter().partition(|delivery| delivery.id.ms.saturating_add(age_max) < now);
        let stale: Vec<Delivery> = stale;
        if !stale.is_empty() {
            debug!(partition = %self.partition, "dropped {} old requests", stale.len());
        }
        stale.into_iter().for_each(|delivery| self.settler.done(delivery));
        fresh
    }

    /// The answers; nothing if Redis didn't answer and the requests have to wait.
    async fn answers(&self, book: &Book) -> Option<Vec<Answer>> {
        let partition = self.partition;
        let answers = match self.history.answer(partition, book.questions()).await {
            Ok(answers) => answers,
            Err(error) if error.is_retryable() => {
                warn!(partition = %partition, %error, "could not read the log for {} requests; they wait", book.len());
                return None;
            }
            Err(error) => {
                warn!(partition = %partition, %error, "could not answer {} requests", book.len());
                vec![Answer::Unavailable; book.questions().len()]
            }
        };
        let unavailable = answers.iter().filter(|answer| **answer == Answer::Unavailable).count();
        metrics::counter!(names::REPLAY_UNAVAILABLE).increment(unavailable as u64);
        Some(answers)
    }

    /// Writes the notes; the edges whose inboxes could not be written.
    async fn send(&self, notes: Vec<(String, Vec<EdgeNote>)>) -> HashSet<String> {
        let sent = join_all(notes.into_iter().map(|(edge, notes)| async move {
            for note in &notes {
                if let Err(error) = self.redis.send_to_edge(&edge, note).await {
                    warn!(partition = %self.partition, edge, %error, "could not write to the inbox of {edge}");
                    return Some(edge);
                }
            }
            None
        }));
        sent.await.into_iter().flatten().collect()
    }
}

fn decode(delivery: &Delivery) -> Result<Requests> {
    let corrupt = || Error::new(Kind::Corrupt, "read requests of an edge");
    let encoded = delivery.raw.field("q").ok_or_else(corrupt)?;
    rmp_serde::from_slice(encoded).map_err(|e| corrupt().caused_by(e))
}

fn local_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
