//! Devices that missed messages and want them all at once.

use std::collections::BTreeSet;
use std::time::Instant;

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use serde::Serialize;

use super::account::Account;
use super::client::{Came, Client};
use super::clock::Clock;
use super::fan_out::{CONNECTING, Window, connect_all};
use super::latency::{Latency, Recorder};
use super::publisher::Publisher;
use super::report::Report;
use super::target::Target;
use crate::error::{Error, Kind, Result};

/// Clients join rooms from their start at the same moment and read what is there: messages per second.
///
/// The messages are published first. With --keep they are those of an earlier run with the same --prefix, --rooms and
/// --messages: trim the log in between, and the archive serves them.
#[derive(Debug, Clone, clap::Args)]
pub struct CatchUpArgs {
    /// Clients.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// Rooms that they are spread over.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: u32,
    /// Messages of each room.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub messages: u32,
    /// Bytes of a body.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(44..=1_000_000))]
    pub body_bytes: u32,
    /// Publish nothing: the messages are there.
    #[arg(long)]
    pub keep: bool,
    /// Publish only.
    #[arg(long, conflicts_with = "keep")]
    pub publish_only: bool,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct CatchUpReport {
    /// Clients.
    pub clients: u64,
    /// Messages that each of them missed.
    pub missed: u64,
    /// Until the last client had everything, in seconds.
    pub seconds: f64,
    /// Messages per second over all clients.
    pub messages_per_second: f64,
    /// From the join to the last missed message.
    pub catch_up_latency: Latency,
    /// Messages that a client did not get.
    pub lost: u64,
    /// Messages that a client got twice.
    pub duplicates: u64,
    /// Messages that came after a later one.
    pub out_of_order: u64,
}

impl Report for CatchUpReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("clients", self.clients as f64),
            ("missed by each", self.missed as f64),
            ("seconds", self.seconds),
            ("messages per second", self.messages_per_second),
            ("lost", self.lost as f64),
            ("duplicates", self.duplicates as f64),
            ("out of order", self.out_of_order as f64),
        ]
    }

    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        vec![("join to last missed", &self.catch_up_latency)]
    }

    fn is_right(&self) -> bool {
        self.lost + self.duplicates + self.out_of_order == 0
    }
}

impl CatchUpArgs {
    /// Publishes, connects, and has all clients join at the same moment; `connected` hears of every connection.
    ///
    /// # Errors
    /// The edge can't be reached, refuses a send or a join, or ends a connection.
    pub async fn run(&self, target: &Target, connected: impl Fn() + Sync) -> Result<CatchUpReport> {
        target.check()?;
        if !self.keep {
            self.publish(target, &connected).await?;
        }
        let (lives, clock) = (Recorder::new(), Clock::start());
        let count = if self.publish_only { 0 } else { self.clients as usize };
        let clients = connect_all(target, count, "u", &connected).await?;
        let begin = Instant::now();
        let reading = clients.into_iter().enumerate().map(|(number, client)| {
            let room = target.room(number % self.rooms as usize);
            let first = u32::try_from(number % self.rooms as usize).unwrap_or_default();
            tokio::spawn(read(client, room, Account::new(first, 1), u64::from(self.messages), clock, lives.clone()))
        });
        let accounts = future::join_all(reading.collect::<Vec<_>>()).await;
        let seconds = begin.elapsed().as_secs_f64();
        let mut report = CatchUpReport {
            clients: count as u64,
            missed: u64::from(self.messages),
            seconds,
            messages_per_second: 0.0,
            catch_up_latency: lives.latency(),
            lost: 0,
            duplicates: 0,
            out_of_order: 0,
        };
        let mut received = 0;
        for account in accounts {
            let account = account.map_err(|error| Error::internal("run a client").caused_by(error))??;
            received += account.received;
            report.lost += account.lost(&[(u64::from(self.messages), BTreeSet::new())]);
            report.duplicates += account.duplicates;
            report.out_of_order += account.out_of_order;
        }
        report.messages_per_second = (received as f64 / seconds).round();
        Ok(report)
    }

    /// Fills the rooms, one publisher each.
    async fn publish(&self, target: &Target, connected: &(impl Fn() + Sync)) -> Result<()> {
        let latency = Recorder::new();
        let window = std::sync::Arc::new(Window { begin: 0, end: u64::MAX });
        let publishing = stream::iter(0..self.rooms as usize).map(|room| {
            let (latency, window) = (latency.clone(), window.clone());
            async move {
                let (user, device) = (format!("{}-p{room}", target.prefix), format!("p{room}"));
                let client = Client::connect(target, room, &user, &device).await?;
                connected();
                let (plans, plan) = tokio::sync::mpsc::unbounded_channel();
                let clock = Clock::start();
                (0..self.messages).for_each(|_| plans.send(clock.now()).unwrap_or_default());
                drop(plans);
                let publisher = Publisher {
                    client,
                    number: u32::try_from(room).unwrap_or_default(),
                    room: target.room(room),
                    run: target.run.clone(),
                    clock,
                    window,
                    body_bytes: self.body_bytes as usize,
                    in_flight: 64,
                    plan: Some(plan),
                    latency,
                };
                let published = publisher.run().await?;
                match published.codes.first_key_value() {
                    None => Ok(()),
                    Some((code, _)) => Err(Error::new(Kind::Endpoint, format!("publish what is to be missed: {code}"))),
                }
            }
        });
        publishing.buffer_unordered(CONNECTING).try_collect().await
    }
}

/// Reads a room from its start until all messages are here.
async fn read(
    mut client: Client,
    room: String,
    mut account: Account,
    messages: u64,
    clock: Clock,
    lives: Recorder,
) -> Result<Account> {
    let begin = clock.now();
    client.say(&serde_json::json!({ "type": "join", "room": room, "since": "start" })).await?;
    while account.received < messages {
        match client.next_in_time().await? {
            Came::Message(stamp) => _ = account.take(stamp),
            Came::Replay(stamps) => stamps.into_iter().for_each(|stamp| _ = account.take(stamp)),
            Came::Other(frame) if frame["type"] == "error" => return Err(super::client::refused(&frame)),
            Came::Other(frame) if frame["type"] == "live" && frame["room"] == room.as_str() => break,
            Came::Other(_) | Came::Sent(_) => {}
        }
    }
    lives.record(usize::try_from(begin).unwrap_or_default(), clock.now().saturating_sub(begin));
    client.close().await;
    Ok(account)
}
