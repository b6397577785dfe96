//! One task per partition that gathers what connections want of Redis besides publishing: joins and
//! leaves to be counted, and requests to the replay workers.
//!
//! # Design
//! When five thousand clients come back with ten rooms each, Redis is to see calls in the number of
//! partitions, not of clients times rooms. So orders wait at a desk while one call is under way, and
//! the next call takes them all. A join is counted before its request is sent, so the event that it
//! writes stands before the answer's end of the room.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::warn;

use super::asks::Asks;
use super::recent::{Questions, Recent};
use crate::backoff::Backoff;
use crate::model::{PartitionId, Partitions, Requests, Room, UserId};
use crate::publish::Known;
use crate::stream::{MemberStep, Redis, Step};

/// Orders of one call at most.
const CALL_ORDERS_MAX: usize = 512;
/// Orders that may wait; beyond, connections wait.
const QUEUE_ORDERS_MAX: usize = 8_192;

/// Something for a desk to do.
pub(super) enum Order {
    /// Count a join, then send the request.
    Join { step: MemberStep, ask: u64 },
    /// Count a step.
    Count(MemberStep),
    /// Answer the request with this number, or send it.
    Ask(u64),
    /// Send the request with this number, which had no answer in time.
    AskAgain(u64),
}

/// The desks of all partitions. Their tasks end when the queues do and the orders are done.
pub(super) struct Desks {
    partitions: Partitions,
    queues: Vec<mpsc::Sender<Order>>,
}

struct Desk {
    partition: PartitionId,
    redis: Redis,
    edge: String,
    debounce: Duration,
    asks: Arc<Asks>,
    known: Arc<Known>,
    recent: Questions,
}

impl Desks {
    /// Starts a task per partition.
    pub(super) fn start(
        redis: &Redis,
        edge: &str,
        debounce: Duration,
        asks: &Arc<Asks>,
        known: &Arc<Known>,
        recent: &Recent,
        partitions: Partitions,
    ) -> (Self, JoinSet<()>) {
        let (mut queues, mut tasks) = (Vec::new(), JoinSet::new());
        for partition in partitions.all() {
            let (queue, orders) = mpsc::channel(QUEUE_ORDERS_MAX);
            let (redis, edge, asks, known) = (redis.clone(), edge.to_owned(), asks.clone(), known.clone());
            let recent = recent.start(partition, &redis, &edge, &mut tasks);
            tasks.spawn(Desk { partition, redis, edge, debounce, asks, known, recent }.run(orders));
            queues.push(queue);
        }
        (Self { partitions, queues }, tasks)
    }

    /// Places an order at the desk of a room's partition; waits while its queue is full.
    pub(super) async fn order(&self, room: &Room, order: Order) {
        // A desk that is gone: the process is stopping.
        let _ = self.queue(room).send(order).await;
    }

    /// Places an order unless the queue is full.
    pub(super) fn try_order(&self, room: &Room, order: Order) {
        let _ = self.queue(room).try_send(order);
    }

    fn queue(&self, room: &Room) -> &mpsc::Sender<Order> {
        &self.queues[usize::from(self.partitions.of(room).0)]
    }
}

impl Desk {
    async fn run(self, mut orders: mpsc::Receiver<Order>) {
        let mut gathered = Vec::new();
        while orders.recv_many(&mut gathered, CALL_ORDERS_MAX).await > 0 {
            let (mut steps, mut asked, mut again) = (Vec::new(), Vec::new(), Vec::new());
            for order in gathered.drain(..) {
                match order {
                    Order::Join { step, ask } => {
                        steps.push(step);
                        asked.push(ask);
                    }
                    Order::Count(step) => steps.push(step),
                    Order::Ask(number) => asked.push(number),
                    Order::AskAgain(number) => again.push(number),
                }
            }
            self.count(&steps).await;
            again.extend(self.recent.take(asked));
            send(&self.asks, &self.redis, &self.edge, self.partition, &again).await;
        }
    }

    /// Counts until Redis has answered: a join or leave that is not counted would be wrong for ever.
    async fn count(&self, steps: &[MemberStep]) {
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(1));
        while !steps.is_empty() {
            // An event behind entries that the log has lost would hide that from whoever looks at its end.
            let seen = self.known.seen(self.partition);
            match self.redis.count_members(self.partition, &self.edge, self.debounce, &seen, steps).await {
                Ok(_) => return,
                Err(error) => {
                    if backoff.attempts() == 0 {
                        warn!(partition = %self.partition, %error, "could not count members, trying again");
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// Sends these requests to the replay workers of a partition, as far as somebody still waits for them.
pub(super) async fn send(asks: &Asks, redis: &Redis, edge: &str, partition: PartitionId, numbers: &[u64]) {
    let requests: Vec<_> = numbers.iter().filter_map(|number| asks.request(*number)).collect();
    if requests.is_empty() {
        return;
    }
    let requests = Requests { edge: edge.to_owned(), requests };
    if let Err(error) = redis.ask_replay(partition, &requests).await {
        // They are asked again when they are overdue.
        warn!(%partition, %error, "could not ask the replay workers");
    }
}

/// A step of a connection in a room.
pub(super) fn step(step: Step, room: &Room, user: &UserId, connection: &str) -> MemberStep {
    MemberStep { step, room: room.clone(), user: user.clone(), connection: connection.to_owned() }
}
