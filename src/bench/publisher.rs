//! One connection that sends into one room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;

use super::body::Stamp;
use super::client::{Came, Client, refused};
use super::clock::Clock;
use super::fan_out::Window;
use super::latency::Recorder;
use crate::error::Result;

/// What a publisher is told.
pub(super) struct Publisher {
    pub(super) client: Client,
    pub(super) number: u32,
    pub(super) room: String,
    /// What its cids begin with.
    pub(super) run: String,
    pub(super) clock: Clock,
    pub(super) window: Arc<Window>,
    pub(super) body_bytes: usize,
    /// Most sends without an answer.
    pub(super) in_flight: usize,
    /// Planned times; without a plan it sends whenever it may.
    pub(super) plan: Option<UnboundedReceiver<u64>>,
    pub(super) latency: Recorder,
}

/// What it did.
#[derive(Debug, Default)]
pub(super) struct Published {
    /// How many numbers it gave out.
    pub(super) sent: u64,
    /// Accepted within the measured time.
    pub(super) accepted: u64,
    /// Numbers that were refused, or unclear at the end.
    pub(super) refused: BTreeSet<u64>,
    /// Refusals by code.
    pub(super) codes: BTreeMap<String, u64>,
}

/// A send that awaits its answer: number and planned time.
type Waiting = VecDeque<(u64, u64)>;

impl Publisher {
    /// Sends until the measured time is over, and waits for the answers.
    pub(super) async fn run(mut self) -> Result<Published> {
        let mut done = Published::default();
        let mut waiting = Waiting::new();
        let mut planned_out = false;
        loop {
            let now = self.clock.now();
            planned_out |= now >= self.window.end;
            let mut fed = false;
            while !planned_out && waiting.len() < self.in_flight {
                let at = match &mut self.plan {
                    None => self.clock.now(),
                    Some(plan) => match plan.try_recv() {
                        Ok(at) => at,
                        Err(error) => {
                            planned_out = error == tokio::sync::mpsc::error::TryRecvError::Disconnected;
                            break;
                        }
                    },
                };
                self.feed(&mut done, &mut waiting, at).await?;
                fed = true;
            }
            if fed {
                self.client.flush().await?;
            }
            if planned_out && waiting.is_empty() {
                self.client.close().await;
                return Ok(done);
            }
            self.wait(&mut done, &mut waiting, planned_out).await?;
        }
    }

    /// Waits for an answer or for the next planned send, and takes all answers that are here.
    async fn wait(&mut self, done: &mut Published, waiting: &mut Waiting, planned_out: bool) -> Result<()> {
        let may_send = !planned_out && waiting.len() < self.in_flight;
        match self.plan.as_mut().filter(|_| may_send) {
            None => {
                let came = self.client.next_in_time().await?;
                self.answered(came, done, waiting)?;
            }
            Some(plan) => {
                let at = tokio::select! {
                    at = plan.recv() => at,
                    came = self.client.next() => return self.answered(came?, done, waiting),
                };
                if let Some(at) = at {
                    self.feed(done, waiting, at).await?;
                    self.client.flush().await?;
                }
            }
        }
        while let Some(came) = self.client.ready()? {
            self.answered(came, done, waiting)?;
        }
        Ok(())
    }

    async fn feed(&mut self, done: &mut Published, waiting: &mut Waiting, at: u64) -> Result<()> {
        let (room, run, n, number) = (&self.room, &self.run, done.sent, self.number);
        let body = Stamp { publisher: number, n, at }.body(self.body_bytes);
        let frame = format!(r#"{{"type":"send","ref":{n},"room":"{room}","cid":"{run}-{number}-{n}","body":{body}}}"#);
        waiting.push_back((n, at));
        done.sent += 1;
        self.client.feed(frame).await
    }

    fn answered(&self, came: Came, done: &mut Published, waiting: &mut Waiting) -> Result<()> {
        match came {
            Came::Sent(n) => {
                if let Some(at) = take(waiting, n) {
                    let now = self.clock.now();
                    if self.window.has(now) {
                        done.accepted += 1;
                        self.latency.record(self.number as usize, now.saturating_sub(at));
                    }
                }
            }
            Came::Other(frame) if frame["type"] == "error" => {
                let Some(n) = frame["ref"].as_u64().filter(|n| take(waiting, *n).is_some()) else {
                    return Err(refused(&frame));
                };
                done.refused.insert(n);
                *done.codes.entry(frame["code"].as_str().unwrap_or("error").to_owned()).or_default() += 1;
            }
            Came::Other(_) | Came::Message(_) | Came::Replay(_) => {}
        }
        Ok(())
    }
}

/// Takes out the send with this number: nearly always the first.
fn take(waiting: &mut Waiting, n: u64) -> Option<u64> {
    let at = waiting.iter().position(|(other, _)| *other == n)?;
    waiting.remove(at).map(|(_, at)| at)
}
