//! A storm: all connections are lost at once, and all come back.
//!
//! Every room has a message, and every client comes back with the cursor of the last message that it has of each room, as
//! client libraries do.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, TryStreamExt as _, future, stream};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::client::{Came, Client, refused};
use super::clock::micros;
use super::fan_out::{CONNECTING, connect_all};
use super::latency::{Latency, Recorder};
use super::report::Report;
use super::target::Target;
use crate::backoff::Backoff;
use crate::error::{Error, Kind, Result};

/// Wait before the second attempt, and the longest between two: a client library's usual ones, shortened.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Cursors by room, as the edge gave them.
type Cursors = HashMap<String, Value>;

/// Connections with many rooms each wait until their edge restarts, and come back at once, each with its cursors: how
/// long it takes until each follows all of its rooms again.
#[derive(Debug, Clone, clap::Args)]
pub struct StormArgs {
    /// Connections.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub connections: u32,
    /// Rooms of each connection.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rooms: u32,
    /// How long to wait for the restart.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    pub wait: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Serialize)]
pub struct StormReport {
    /// Connections.
    pub connections: u64,
    /// Rooms of each.
    pub rooms: u64,
    /// From the first connection that was accepted again to the last that follows all of its rooms, in seconds.
    pub seconds: f64,
    /// From a connection's loss to all of its rooms being live again.
    pub live_latency: Latency,
    /// Attempts that failed meanwhile.
    pub failed_attempts: u64,
}

impl Report for StormReport {
    fn figures(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("connections", self.connections as f64),
            ("rooms of each", self.rooms as f64),
            ("seconds", self.seconds),
            ("failed attempts", self.failed_attempts as f64),
        ]
    }

    fn latencies(&self) -> Vec<(&'static str, &Latency)> {
        vec![("lost to live", &self.live_latency)]
    }

    /// A client that doesn't come back is an error.
    fn is_right(&self) -> bool {
        true
    }
}

impl StormArgs {
    /// Connects, waits for the storm, and comes through it; `connected` hears of each connection, `ready` once the
    /// edge may be restarted.
    ///
    /// # Errors
    /// The edge can't be reached at first, refuses a join, or isn't restarted in time.
    pub async fn run(&self, target: &Target, connected: impl Fn() + Sync, ready: impl FnOnce()) -> Result<StormReport> {
        target.check()?;
        let mut clients = connect_all(target, self.connections as usize, "w", &connected).await?;
        let joining = clients.iter_mut().enumerate().map(|(number, client)| self.join(target, number, client, None));
        stream::iter(joining).buffer_unordered(CONNECTING).try_collect::<()>().await?;
        let saying = clients.iter_mut().enumerate().map(|(number, client)| self.say(target, number, client));
        stream::iter(saying).buffer_unordered(CONNECTING).try_collect::<()>().await?;
        let hearing = clients.iter_mut().enumerate().map(|(number, client)| self.hear(target, number, client));
        let cursors: Vec<Cursors> = stream::iter(hearing).buffered(CONNECTING).try_collect().await?;
        ready();
        let lives = Recorder::new();
        let first = watch::Sender::new(None);
        let returning = clients.into_iter().zip(cursors).enumerate().map(|(number, (client, cursors))| {
            let (args, target, lives, first) = (self.clone(), target.clone(), lives.clone(), first.clone());
            tokio::spawn(async move { args.survive(&target, number, client, &cursors, &lives, &first).await })
        });
        let mut failed_attempts = 0;
        for returned in future::join_all(returning.collect::<Vec<_>>()).await {
            failed_attempts += returned.map_err(|error| Error::internal("run a client").caused_by(error))??;
        }
        let begin: Option<Instant> = *first.borrow();
        Ok(StormReport {
            connections: u64::from(self.connections),
            rooms: u64::from(self.rooms),
            seconds: begin.map_or(0.0, |begin| begin.elapsed().as_secs_f64()),
            live_latency: lives.latency(),
            failed_attempts,
        })
    }

    /// Waits until the connection is lost, makes it again, and gives how many attempts failed.
    async fn survive(
        &self,
        target: &Target,
        number: usize,
        mut client: Client,
        cursors: &Cursors,
        lives: &Recorder,
        first: &watch::Sender<Option<Instant>>,
    ) -> Result<u64> {
        let lost = async { while client.next().await.is_ok() {} };
        tokio::time::timeout(self.wait, lost)
            .await
            .map_err(|_| Error::new(Kind::Endpoint, "see the edge restart: no connection was lost in time"))?;
        let begin = Instant::now();
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            match self.again(target, number, cursors, first).await {
                Ok(()) => break,
                Err(error) if begin.elapsed() > self.wait => return Err(error),
                Err(_) => tokio::time::sleep(backoff.next()).await,
            }
        }
        lives.record(number, micros(begin.elapsed()));
        Ok(u64::from(backoff.attempts()))
    }

    async fn again(
        &self,
        target: &Target,
        number: usize,
        cursors: &Cursors,
        first: &watch::Sender<Option<Instant>>,
    ) -> Result<()> {
        let (user, device) = (format!("{}-w{number}", target.prefix), format!("w{number}"));
        let mut client = Client::connect(target, number, &user, &device).await?;
        first.send_if_modified(|first| first.is_none() && first.replace(Instant::now()).is_none());
        self.join(target, number, &mut client, Some(cursors)).await
    }

    /// A connection's rooms. Neighbours share rooms.
    fn rooms_of(&self, target: &Target, number: usize) -> Vec<String> {
        (0..self.rooms as usize).map(|room| target.room(number + room)).collect()
    }

    /// Joins the connection's rooms, and waits until all of them are live.
    async fn join(&self, target: &Target, number: usize, client: &mut Client, cursors: Option<&Cursors>) -> Result<()> {
        let rooms = self.rooms_of(target, number);
        for room in &rooms {
            let since = cursors.map_or_else(|| json!("saved"), |cursors| cursors[room].clone());
            client.say(&json!({ "type": "join", "room": room, "since": since })).await?;
        }
        client.answers("live", rooms).await
    }

    /// Says something in the first of the connection's rooms; the last connection also where no other does.
    async fn say(&self, target: &Target, number: usize, client: &mut Client) -> Result<()> {
        let rooms = self.rooms_of(target, number);
        let count = if number + 1 == self.connections as usize { rooms.len() } else { 1 };
        for room in &rooms[..count] {
            let send = json!({ "type": "send", "ref": "s", "room": room, "cid": room, "body": "before the storm" });
            client.say(&send).await?;
        }
        Ok(())
    }

    /// Waits for a message in each of the connection's rooms, and gives where they stand.
    async fn hear(&self, target: &Target, number: usize, client: &mut Client) -> Result<Cursors> {
        let rooms = self.rooms_of(target, number).len();
        let mut cursors = Cursors::new();
        while cursors.len() < rooms {
            match client.next_in_time().await? {
                Came::Other(frame) if frame["type"] == "message" => {
                    let room = frame["room"].as_str().unwrap_or_default().to_owned();
                    cursors.insert(room, json!({ "id": frame["id"], "seq": frame["seq"] }));
                }
                Came::Other(frame) if frame["type"] == "error" => return Err(refused(&frame)),
                _ => {}
            }
        }
        Ok(cursors)
    }
}
