//! Answers what the log alone can tell, without the way through a replay worker and the inbox.
//!
//! # Design
//! A page that a replay worker reads in the log goes through Redis three times: out of the log, into the inbox, out of
//! there. That was two thirds of what a catch-up cost. What the log holds the edge can read itself, by the same rules
//! ([`History::of_log`]): it proves a cursor as the worker does, or leaves it to the worker. So a request is tried here
//! first, and goes on to a worker if it is about what the log doesn't hold, is too far back, or asks for a page of history.
//! One that had no answer in time is asked again there, not here.
//!
//! Requests of a partition that wait together share their reading, and few partitions are read at the same time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::warn;

use super::asks::Asks;
use super::desk;
use crate::config::ReplaySettings;
use crate::history::History;
use crate::model::{Answer, Answered, Ask, PartitionId, Room};
use crate::stream::Redis;

/// Requests that wait for one partition; more go to the replay workers.
const WAITING_MAX: usize = 1_024;
/// Requests that are answered together.
const TOGETHER_MAX: usize = 256;
/// Partitions that are read at the same time: pages lie in memory until they are handed out.
const READINGS_MAX: usize = 2;
/// Longest reading, so that nobody waits for a turn for long. Soon after, requests go to the replay workers anyway.
const READING_MAX: Duration = Duration::from_millis(1_500);

/// Reads the logs.
pub(super) struct Recent {
    history: Arc<History>,
    asks: Arc<Asks>,
    turns: Arc<Semaphore>,
}

/// Where the questions about a partition are put.
pub(super) struct Questions {
    asks: Arc<Asks>,
    waiting: mpsc::Sender<u64>,
}

/// Answers about one partition.
struct Reading {
    partition: PartitionId,
    redis: Redis,
    edge: String,
    history: Arc<History>,
    asks: Arc<Asks>,
    turns: Arc<Semaphore>,
}

impl Recent {
    pub(super) fn new(redis: &Redis, settings: &ReplaySettings, asks: &Arc<Asks>) -> Self {
        let history = Arc::new(History::of_log(redis.clone(), settings));
        Self { history, asks: asks.clone(), turns: Arc::new(Semaphore::new(READINGS_MAX)) }
    }

    /// Starts the task of a partition, which ends when its questions do.
    pub(super) fn start(
        &self,
        partition: PartitionId,
        redis: &Redis,
        edge: &str,
        tasks: &mut JoinSet<()>,
    ) -> Questions {
        let (waiting, questions) = mpsc::channel(WAITING_MAX);
        let (history, asks, turns) = (self.history.clone(), self.asks.clone(), self.turns.clone());
        let (redis, edge) = (redis.clone(), edge.to_owned());
        tasks.spawn(Reading { partition, redis, edge, history, asks, turns }.run(questions));
        Questions { asks: self.asks.clone(), waiting }
    }
}

impl Questions {
    /// Takes the requests that may be answered here, and gives back the others.
    pub(super) fn take(&self, numbers: Vec<u64>) -> impl Iterator<Item = u64> {
        numbers.into_iter().filter(|number| !self.asks.is_delivery(*number) || self.waiting.try_send(*number).is_err())
    }
}

impl Reading {
    async fn run(self, mut questions: mpsc::Receiver<u64>) {
        let mut gathered = Vec::new();
        while let Some(first) = questions.recv().await {
            // Whoever waits for a turn does so together with those who come meanwhile.
            let turn = self.turns.acquire().await;
            gathered.push(first);
            while gathered.len() < TOGETHER_MAX
                && let Ok(number) = questions.try_recv()
            {
                gathered.push(number);
            }
            let left = self.answer(&gathered).await;
            gathered.clear();
            drop(turn);
            desk::send(&self.asks, &self.redis, &self.edge, self.partition, &left).await;
        }
    }

    /// Answers what can be answered, and gives what can't.
    async fn answer(&self, numbers: &[u64]) -> Vec<u64> {
        let (mut questions, mut asked) = (Vec::new(), Vec::<Vec<u64>>::new());
        let mut places: HashMap<(Room, Ask), usize> = HashMap::new();
        for request in numbers.iter().filter_map(|number| self.asks.request(*number)) {
            let place = *places.entry((request.room, request.ask)).or_insert_with_key(|question| {
                questions.push(question.clone());
                asked.push(Vec::new());
                asked.len() - 1
            });
            asked[place].push(request.request);
        }
        let answers = match timeout(READING_MAX, self.history.answer(self.partition, &questions)).await {
            Ok(Ok(answers)) => answers,
            Ok(Err(error)) => {
                warn!(partition = %self.partition, %error, "could not read the log, the replay workers are asked");
                return numbers.to_vec();
            }
            Err(_) => return numbers.to_vec(),
        };
        let mut left = Vec::new();
        for (answer, requests) in answers.into_iter().zip(asked) {
            match answer {
                Answer::Unavailable => left.extend(requests),
                answer => self.asks.answer(Answered { requests, answer }),
            }
        }
        left
    }
}
