//! Publishers and subscribers of many rooms: how much goes through, and how late.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::account::Account;
use super::client::Client;
use super::clock::{Clock, micros};
use super::latency::{Latency, Recorder};
use super::pacer::Pacer;
use super::publisher::{Published, Publisher};
use super::report::Report;
use super::subscriber::{Followed, Subscriber};
use super::target::Target;
use crate::error::{Error, Result};

/// Connections that are made at the same time.
pub(super) const CONNECTING: usize = 64;

/// What a load of sends has in common.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// Sends per second over all publishers, on time whatever the server does; without it, each publisher sends
    /// whenever fewer than --in-flight sends await their answer.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rate: Option<u32>,
    /// Sends of one publisher that may await their answer.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub in_flight: u32,
    /// How long is measured.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long the load runs before that.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warm_up: Duration,
    /// Bytes of a body.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(44..=1_000_000))]
    pub body_bytes: u32,
}

/// Publishers send into rooms, and subscribers receive what is sent: deliveries per second, latency, losses.
#[derive(Debug, Clone, clap::Args)]
pub struct FanOutArgs {
    /// Rooms.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: u32,
    /// Subscribers of each room.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub subscribers: u32,
    /// Publishers of each room.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub publishers: u32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documentation of a group would become the command's help")]
    pub load: LoadArgs,
}

/// Connections send as much as is accepted, and nobody receives: accepted sends per second, and how long the
/// answer takes.
#[derive(Debug, Clone, clap::Args)]
pub struct IngestArgs {
    /// Connections, each of which sends into a room of its own.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    #[command(flatten)]
    #[expect(missing_docs, reason = "documentation of a group would become the command's help")]
    pub load: LoadArgs,
}

impl From<IngestArgs> for FanOutArgs {
    fn from(args: IngestArgs) -> Self {
        Self { rooms: args.connections, subscribers: 0, publishers: 1, load: args.load }
    }
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct FanOutReport {
    /// Connections, publishers and subscribers.
    pub connections: u64,
    /// Length of the measured time, in seconds.
    pub seconds: f64,
    /// Sends that were accepted in that time.
    pub accepted: u64,
    /// The same per second.
    pub accepted_per_second: f64,
    /// From the planned time of a send to its `sent`.
    pub send_latency: Latency,
    /// Messages that reached a subscriber in that time.
    pub delivered: u64,
    /// The same per second.
    pub delivered_per_second: f64,
    /// From the planned time of a send to its receipt.
    pub delivery_latency: Latency,
    /// Accepted messages that a subscriber did not get.
    pub lost: u64,
    /// Messages that a subscriber got twice.
    pub duplicates: u64,
    /// Messages that came after a later one of the same publisher.
    pub out_of_order: u64,
    /// Announced jumps: `reset` frames.
    pub resets: u64,
    /// Subscribers whose connection ended.
    pub disconnected: u64,
    /// Refused sends, by code.
    pub refused: BTreeMap<String, u64>,
}

impl Report for FanOutReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("connections", self.connections as f64),
            ("seconds", self.seconds),
            ("accepted", self.accepted as f64),
            ("accepted per second", self.accepted_per_second),
            ("refused", self.refused.values().sum::<u64>() as f64),
            ("delivered", self.delivered as f64),
            ("delivered per second", self.delivered_per_second),
            ("lost", self.lost as f64),
            ("duplicates", self.duplicates as f64),
            ("out of order", self.out_of_order as f64),
            ("resets", self.resets as f64),
            ("disconnected", self.disconnected as f64),
        ]
    }

    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        vec![("send to sent", &self.send_latency), ("send to delivery", &self.delivery_latency)]
    }

    fn is_right(&self) -> bool {
        self.lost + self.duplicates + self.out_of_order + self.resets + self.disconnected == 0
    }
}

/// The measured time, on the load's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) begin: u64,
    pub(super) end: u64,
}

impl Window {
    pub(super) fn has(&self, now: u64) -> bool {
        now >= self.begin && now < self.end
    }
}

/// What each publisher of a room sent, and which of it was refused.
pub(super) type Sent = Arc<Vec<(u64, BTreeSet<u64>)>>;

impl FanOutArgs {
    /// Puts the load on and counts; `connected` hears of every connection that stands.
    ///
    /// # Errors
    /// The edge can't be reached, refuses a connection or a join, or ends a publisher's connection.
    pub async fn run(&self, target: &Target, connected: impl Fn() + Sync) -> Result<FanOutReport> {
        target.check()?;
        let publishers = connect_all(target, self.publisher_count(), "p", &connected).await?;
        let mut subscribers =
            connect_all(target, self.rooms as usize * self.subscribers as usize, "s", &connected).await?;
        join_all(target, &mut subscribers, self.rooms as usize).await?;
        let connections = (publishers.len() + subscribers.len()) as u64;
        let clock = Clock::start();
        let begin = clock.now() + micros(self.load.warm_up);
        let window = Arc::new(Window { begin, end: begin + micros(self.load.duration) });
        let (deliveries, answers) = (Recorder::new(), Recorder::new());
        let rooms: Vec<watch::Sender<Option<Sent>>> = (0..self.rooms).map(|_| watch::Sender::new(None)).collect();
        let mut following = JoinSet::new();
        for (number, client) in subscribers.into_iter().enumerate() {
            let room = number % rooms.len();
            let first = u32::try_from(room).unwrap_or_default() * self.publishers;
            let account = Account::new(first, self.publishers);
            let (latency, window, sent) = (deliveries.clone(), window.clone(), rooms[room].subscribe());
            following.spawn(Subscriber { client, number, clock, window, account, latency, sent }.run());
        }
        let published = self.publish(target, publishers, clock, &window, &answers).await?;
        for (room, of_room) in rooms.iter().zip(published.chunks(self.publishers as usize)) {
            let sent = of_room.iter().map(|published| (published.sent, published.refused.clone())).collect();
            room.send_replace(Some(Arc::new(sent)));
        }
        let followed = following.join_all().await;
        Ok(self.report(connections, &published, &followed, answers.latency(), deliveries.latency()))
    }

    fn publisher_count(&self) -> usize {
        self.rooms as usize * self.publishers as usize
    }

    /// Has all publishers send; gives what each did, those of a room in a row.
    async fn publish(
        &self,
        target: &Target,
        clients: Vec<Client>,
        clock: Clock,
        window: &Arc<Window>,
        latency: &Recorder,
    ) -> Result<Vec<Published>> {
        let seconds = (self.load.warm_up + self.load.duration).as_secs_f64();
        let (_pacer, plans) = match self.load.rate {
            Some(rate) => {
                let (pacer, plans) = Pacer::start(clock, f64::from(rate), clients.len(), seconds);
                (Some(pacer), plans.into_iter().map(Some).collect())
            }
            None => (None, clients.iter().map(|_| None).collect::<Vec<_>>()),
        };
        let mut publishing = JoinSet::new();
        for ((number, client), plan) in clients.into_iter().enumerate().zip(plans) {
            let publisher = Publisher {
                client,
                number: u32::try_from(number).unwrap_or_default(),
                room: target.room(number / self.publishers as usize),
                run: target.run.clone(),
                clock,
                window: window.clone(),
                body_bytes: self.load.body_bytes as usize,
                in_flight: self.load.in_flight as usize,
                plan,
                latency: latency.clone(),
            };
            publishing.spawn(async move { (number, publisher.run().await) });
        }
        let mut published = publishing.join_all().await;
        published.sort_by_key(|(number, _)| *number);
        published.into_iter().map(|(_, published)| published).collect()
    }

    fn report(
        &self,
        connections: u64,
        published: &[Published],
        followed: &[Followed],
        send_latency: Latency,
        delivery_latency: Latency,
    ) -> FanOutReport {
        let seconds = self.load.duration.as_secs_f64();
        let accepted = published.iter().map(|published| published.accepted).sum();
        let sum = |what: fn(&Followed) -> u64| followed.iter().map(what).sum::<u64>();
        let delivered = sum(|followed| followed.delivered);
        let mut refused = BTreeMap::new();
        for (code, count) in published.iter().flat_map(|published| &published.codes) {
            *refused.entry(code.clone()).or_default() += count;
        }
        FanOutReport {
            connections,
            seconds,
            accepted,
            accepted_per_second: (accepted as f64 / seconds).round(),
            send_latency,
            delivered,
            delivered_per_second: (delivered as f64 / seconds).round(),
            delivery_latency,
            lost: sum(|followed| followed.lost),
            duplicates: sum(|followed| followed.duplicates),
            out_of_order: sum(|followed| followed.out_of_order),
            resets: sum(|followed| followed.resets),
            disconnected: sum(|followed| u64::from(followed.disconnected)),
            refused,
        }
    }
}

/// Makes `count` connections, each a user and a device of its own.
pub(super) async fn connect_all(
    target: &Target,
    count: usize,
    role: &str,
    connected: &(impl Fn() + Sync),
) -> Result<Vec<Client>> {
    let connecting = stream::iter(0..count).map(|number| async move {
        let (user, device) = (format!("{}-{role}{number}", target.prefix), format!("{role}{number}"));
        let client = Client::connect(target, number, &user, &device).await?;
        connected();
        Ok::<_, Error>((number, client))
    });
    let mut clients: Vec<_> = connecting.buffer_unordered(CONNECTING).try_collect().await?;
    clients.sort_by_key(|(number, _)| *number);
    Ok(clients.into_iter().map(|(_, client)| client).collect())
}

/// Joins each client to one of the rooms, up to `live`.
async fn join_all(target: &Target, clients: &mut [Client], rooms: usize) -> Result<()> {
    let joining = stream::iter(clients.iter_mut().enumerate()).map(|(number, client)| async move {
        let room = target.room(number % rooms);
        client.join(&room, "now").await?;
        client.answer("live", &room).await
    });
    joining.buffer_unordered(CONNECTING).try_collect().await
}
