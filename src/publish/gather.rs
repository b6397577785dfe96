//! One task per partition that turns waiting messages into calls of the publish script.

use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::Histogram;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::warn;

use super::known::Known;
use crate::backoff::Backoff;
use crate::config::{Durability, RedisSettings, Settings};
use crate::error::{Error, Kind, Result};
use crate::model::{Cursor, PartitionId, Partitions};
use crate::sockets::to_nodes;
use crate::stream::{Generation, Publish, Published, Redis};
use crate::telemetry::names;

/// Messages of one call at most: Redis serves nobody else while a script runs.
const CALL_MESSAGES_MAX: usize = 256;
/// Bytes of envelopes of one call at most.
const CALL_BYTES_MAX: usize = 512 << 10;
/// Messages that may wait for a partition; beyond, they are refused.
const QUEUE_MESSAGES_MAX: usize = 4_096;

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log at this place; `duplicate`: it had been there before.
    Accepted {
        /// Its id and seq.
        place: Cursor,
        /// Whether an earlier send had put it there.
        duplicate: bool,
    },
    /// The device used its cid for something else.
    CidConflict,
    /// The room is closed.
    RoomClosed,
    /// A connection of the device with this newer generation has stored something; nothing was stored.
    Superseded(Generation),
    /// The log can't be written now. The message may have been stored all the same: a repeat finds it.
    Unavailable,
}

/// Takes outcomes of many messages, told apart by a ticket. Must not block.
pub trait Sink: Send + Sync {
    /// The outcome of the message with this ticket.
    fn published(&self, ticket: u64, outcome: Outcome);
}

/// Where the outcome of a message goes.
pub enum Answer {
    /// To a connection with many messages under way.
    Ticket(Arc<dyn Sink>, u64),
    /// To one waiter.
    Once(oneshot::Sender<Outcome>),
}

/// A message and where its outcome goes.
pub struct Job {
    /// The message.
    pub message: Publish,
    /// Where the outcome goes.
    pub answer: Answer,
}

/// Hands messages to the partitions' tasks. Its tasks end when it is dropped.
pub struct Publisher {
    partitions: Partitions,
    queues: Vec<mpsc::Sender<Job>>,
    _tasks: JoinSet<()>,
}

struct Partition {
    redis: Redis,
    id: PartitionId,
    retry: Duration,
    memory_ms: u64,
    durability: Durability,
    call_messages: Histogram,
    known: Arc<Known>,
}

impl Publisher {
    /// Starts a task per partition, on a connection of their own; one each where replicas are waited for,
    /// because WAIT holds up what follows it on its connection. What is `known` must still be in the log when
    /// it writes: one that was lost is not numbered again.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn start(redis: &Redis, settings: &Settings, partitions: Partitions, known: Arc<Known>) -> Result<Self> {
        let mut redis = redis.another().await?;
        let mut tasks = JoinSet::new();
        let mut queues = Vec::new();
        let waits = matches!(settings.redis.durability, Durability::Replicated(_));
        for id in partitions.all() {
            if waits && !queues.is_empty() {
                redis = redis.another().await?;
            }
            let (queue, waiting) = mpsc::channel(QUEUE_MESSAGES_MAX);
            let partition = Partition {
                redis: redis.clone(),
                id,
                retry: *settings.edge.publish_retry,
                memory_ms: u64::try_from(settings.edge.cursor_ttl.as_millis()).unwrap_or(u64::MAX),
                durability: settings.redis.durability,
                call_messages: metrics::histogram!(names::PUBLISH_BATCH_MESSAGES),
                known: known.clone(),
            };
            tasks.spawn(partition.run(waiting));
            queues.push(queue);
        }
        Ok(Self { partitions, queues, _tasks: tasks })
    }

    /// How many connections to Redis its tasks have, with so many masters if it is a cluster. Where each has its
    /// own, that leads to the master of its partition, and while this moves to another.
    pub fn connections(settings: &RedisSettings, masters: Option<usize>) -> u64 {
        let partitions = u64::from(settings.partitions);
        match (settings.durability, masters) {
            (Durability::Replicated(_), None) => partitions,
            (Durability::Replicated(_), Some(_)) => 2 * partitions,
            _ => to_nodes(masters),
        }
    }

    /// Hands a message over, unless its partition's queue is full: then it gives `false`, and no
    /// outcome will come.
    pub fn offer(&self, job: Job) -> bool {
        self.queues[usize::from(self.partitions.of(&job.message.room).0)].try_send(job).is_ok()
    }

    /// Hands one message over and waits for its outcome.
    pub async fn publish(&self, message: Publish) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        if !self.offer(Job { message, answer: Answer::Once(answer) }) {
            return Outcome::Unavailable;
        }
        outcome.await.unwrap_or(Outcome::Unavailable)
    }
}

impl Answer {
    fn give(self, outcome: Outcome) {
        match self {
            Self::Ticket(sink, ticket) => sink.published(ticket, outcome),
            // Whoever waited has gone: the message is stored all the same.
            Self::Once(waiter) => drop(waiter.send(outcome)),
        }
    }
}

impl Partition {
    async fn run(self, mut waiting: mpsc::Receiver<Job>) {
        let mut held: Option<Job> = None;
        loop {
            let Some(first) = (match held.take() {
                Some(job) => Some(job),
                None => waiting.recv().await,
            }) else {
                return;
            };
            let mut bytes = first.message.envelope.len();
            let mut jobs = vec![first];
            while jobs.len() < CALL_MESSAGES_MAX {
                let Ok(job) = waiting.try_recv() else { break };
                bytes += job.message.envelope.len();
                if bytes > CALL_BYTES_MAX {
                    held = Some(job);
                    break;
                }
                jobs.push(job);
            }
            let outcomes = self.write(&jobs).await;
            for (job, outcome) in jobs.into_iter().zip(outcomes) {
                job.answer.give(outcome);
            }
        }
    }

    /// Writes until Redis has answered or the time for trying is over.
    async fn write(&self, jobs: &[Job]) -> Vec<Outcome> {
        let messages: Vec<&Publish> = jobs.iter().map(|job| &job.message).collect();
        self.call_messages.record(jobs.len() as f64);
        let deadline = Instant::now() + self.retry;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
        loop {
            match self.call(&messages).await {
                Ok(published) => return published.into_iter().map(outcome).collect(),
                Err(error) => {
                    let wait = backoff.next();
                    if !error.is_retryable() || Instant::now() + wait > deadline {
                        warn!(partition = %self.id, messages = jobs.len(), %error, "could not write to the log");
                        return vec![Outcome::Unavailable; jobs.len()];
                    }
                    let kind = format!("{:?}", error.kind());
                    metrics::counter!(names::PUBLISH_RETRIES, "kind" => kind).increment(1);
                    tokio::time::sleep(wait).await;
                }
            }
        }
    }

    fn keep_newest(&self, epoch: String, published: &[Published]) {
        // The place of a repeat may be of an earlier epoch.
        let stored = published.iter().filter_map(|published| match published {
            Published::Stored(place) => Some(place.id),
            _ => None,
        });
        self.known.keep(self.id, epoch, stored.max());
    }

    async fn call(&self, messages: &[&Publish]) -> Result<Vec<Published>> {
        let seen = self.known.seen(self.id);
        let Durability::Replicated(wanted) = self.durability else {
            let (epoch, published) = self.redis.publish(self.id, messages, self.memory_ms, &seen).await?;
            self.keep_newest(epoch, &published);
            return Ok(published);
        };
        // One call, so that no other server than the one that wrote answers for its replicas. If they are
        // too few, all is said again: after a failover the new master may not have it.
        let wait = (wanted, self.retry);
        let answer = self.redis.publish_replicated(self.id, messages, self.memory_ms, &seen, wait).await?;
        let (reached, (epoch, published)) = answer;
        self.keep_newest(epoch, &published);
        if reached < wanted {
            return Err(Error::new(Kind::RedisRefused, format!("reach {wanted} replicas: {reached} answered")));
        }
        Ok(published)
    }
}

fn outcome(published: Published) -> Outcome {
    match published {
        Published::Stored(place) => Outcome::Accepted { place, duplicate: false },
        Published::Known(place) => Outcome::Accepted { place, duplicate: true },
        Published::CidConflict => Outcome::CidConflict,
        Published::RoomClosed => Outcome::RoomClosed,
        Published::Superseded(newest) => Outcome::Superseded(newest),
    }
}
