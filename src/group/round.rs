//! One round of a worker's questions: does it live, are its leases still its own, what is free?

use std::collections::HashSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::Instant;

use super::share::{first_choice, share};
use super::worker::Worker;
use crate::error::Error;
use crate::model::{PartitionId, Partitions};

/// What a round is to ask.
pub(super) struct Question {
    /// Leases to renew, with their tokens.
    pub held: Vec<(PartitionId, u64)>,
    /// Partitions not to take: those that are held, and those that are just being lost.
    pub owned: HashSet<PartitionId>,
    pub partitions: Partitions,
    /// Whoever is stopping renews, and neither says that it lives nor takes anything.
    pub is_stopping: bool,
}

/// What it heard.
#[derive(Default)]
pub(super) struct Answer {
    /// Per lease when its renewal was sent, and whether it is still ours, if that was answered.
    pub renewed: Vec<(PartitionId, u64, Instant, Option<bool>)>,
    /// The workers that live, this one among them.
    pub workers: Option<Vec<String>>,
    /// New leases with their tokens, and when each was asked for.
    pub acquired: Vec<(PartitionId, u64, Instant)>,
    /// The first failure.
    pub failure: Option<Error>,
}

/// Asks all of it; what can be asked side by side is.
pub(super) async fn ask(worker: Arc<Worker>, question: Question) -> Answer {
    let mut answer = Answer::default();
    let ttl = *worker.settings.lease_ttl;
    let renewals = join_all(question.held.iter().map(|&(p, token)| {
        let worker = &worker;
        async move {
            let sent_at = Instant::now();
            (p, token, sent_at, worker.redis.renew_lease(&worker.group, p, token, ttl).await)
        }
    }));
    let heartbeat = async {
        if question.is_stopping {
            return Ok(None);
        }
        worker.redis.worker_heartbeat(&worker.group, &worker.id, ttl).await.map(Some)
    };
    let (renewed, heartbeat) = tokio::join!(renewals, heartbeat);
    for (p, token, sent_at, renewed) in renewed {
        let is_ours = renewed.map_err(|error| answer.failure.get_or_insert(error).kind()).ok();
        answer.renewed.push((p, token, sent_at, is_ours));
    }
    match heartbeat {
        Ok(Some(workers)) => {
            acquire(&worker, &question, &workers, &mut answer).await;
            answer.workers = Some(workers);
        }
        Ok(None) => {}
        Err(error) => {
            answer.failure.get_or_insert(error);
        }
    }
    answer
}

/// Takes what is free, up to our share.
async fn acquire(worker: &Worker, question: &Question, workers: &[String], answer: &mut Answer) {
    let count = question.partitions.count();
    let share = share(count, workers, &worker.id);
    let mut missing = share.saturating_sub(question.owned.len());
    let first = first_choice(count, workers, &worker.id);
    let mut choices = (0..count).map(|n| PartitionId((first + n) % count)).filter(|p| !question.owned.contains(p));
    let ttl = *worker.settings.lease_ttl;
    while missing > 0 {
        let tried: Vec<PartitionId> = choices.by_ref().take(missing).collect();
        if tried.is_empty() {
            return;
        }
        let asked = tried.into_iter().map(|p| async move {
            let sent_at = Instant::now();
            (p, sent_at, worker.redis.acquire_lease(&worker.group, p, &worker.id, ttl).await)
        });
        for (p, sent_at, token) in join_all(asked).await {
            match token {
                Ok(Some(token)) => {
                    answer.acquired.push((p, token, sent_at));
                    missing -= 1;
                }
                Ok(None) => {}
                Err(error) => {
                    answer.failure.get_or_insert(error);
                }
            }
        }
        if answer.failure.is_some() {
            return;
        }
    }
}
