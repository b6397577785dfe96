//! Connections that do nothing but stand: how fast they are made, and what they cost while they idle.

use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;

use super::client::Client;
use super::clock::micros;
use super::latency::{Latency, Recorder};
use super::report::Report;
use super::target::Target;
use crate::error::{Error, Result};

/// Makes connections that join a room each and then idle: connections per second, and time for whoever measures
/// the edge's memory.
#[derive(Debug, Clone, clap::Args)]
pub struct ConnectArgs {
    /// Connections.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Rooms they are spread over.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rooms: u32,
    /// Connections that are being made at the same time.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub at_once: u32,
    /// How long they idle.
    #[arg(long, default_value = "0s", value_parser = humantime::parse_duration)]
    pub hold: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectReport {
    /// Connections that stood.
    pub connections: u64,
    /// Until the last one had joined, in seconds.
    pub seconds: f64,
    /// Connections per second.
    pub connections_per_second: f64,
    /// From the first packet to `welcome`.
    pub welcome_latency: Latency,
    /// From the first packet to `live` of the room.
    pub live_latency: Latency,
    /// Connections that did not stand any more after idling.
    pub disconnected: u64,
}

impl Report for ConnectReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("connections", self.connections as f64),
            ("seconds", self.seconds),
            ("connections per second", self.connections_per_second),
            ("disconnected", self.disconnected as f64),
        ]
    }

    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        vec![("connect to welcome", &self.welcome_latency), ("connect to live", &self.live_latency)]
    }

    fn is_right(&self) -> bool {
        self.disconnected == 0
    }
}

impl ConnectArgs {
    /// Makes them; `connected` hears of each, `held` once all stand.
    ///
    /// # Errors
    /// The edge can't be reached, or refuses a connection or a join.
    pub async fn run(
        &self,
        target: &Target,
        connected: impl Fn() + Sync,
        held: impl FnOnce(),
    ) -> Result<ConnectReport> {
        target.check()?;
        let (welcomes, lives) = (Recorder::new(), Recorder::new());
        let begin = Instant::now();
        let connecting = stream::iter(0..self.connections as usize).map(|number| {
            let (welcomes, lives, connected) = (&welcomes, &lives, &connected);
            async move {
                let begin = Instant::now();
                let (user, device) = (format!("{}-c{number}", target.prefix), format!("c{number}"));
                let mut client = Client::connect(target, number, &user, &device).await?;
                welcomes.record(number, micros(begin.elapsed()));
                let room = target.room(number % self.rooms as usize);
                client.join(&room, "now").await?;
                client.answer("live", &room).await?;
                lives.record(number, micros(begin.elapsed()));
                connected();
                Ok::<_, Error>(client)
            }
        });
        let clients: Vec<Client> = connecting.buffer_unordered(self.at_once as usize).try_collect().await?;
        let seconds = begin.elapsed().as_secs_f64();
        held();
        let disconnected = hold(clients, self.hold).await;
        Ok(ConnectReport {
            connections: u64::from(self.connections),
            seconds,
            connections_per_second: (f64::from(self.connections) / seconds).round(),
            welcome_latency: welcomes.latency(),
            live_latency: lives.latency(),
            disconnected,
        })
    }
}

/// Idles, answering what has to be answered, and gives how many connections are gone afterwards.
async fn hold(clients: Vec<Client>, time: Duration) -> u64 {
    let end = tokio::time::Instant::now() + time;
    let holding = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let listening = async { while client.next().await.is_ok() {} };
            let stands = tokio::time::timeout_at(end, listening).await.is_err();
            if stands {
                client.close().await;
            }
            stands
        })
    });
    let stood = futures_util::future::join_all(holding.collect::<Vec<_>>()).await;
    stood.into_iter().filter(|stands| !matches!(stands, Ok(true))).count() as u64
}
