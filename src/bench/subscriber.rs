//! One connection that follows one room, and keeps an account of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::account::Account;
use super::body::Stamp;
use super::client::{Came, Client};
use super::clock::Clock;
use super::fan_out::{Sent, Window};
use super::latency::Recorder;
use crate::error::Result;

/// Longest time without a delivery before what is missing counts as lost.
const IDLE: Duration = Duration::from_secs(10);

/// What a subscriber is told.
pub(super) struct Subscriber {
    pub(super) client: Client,
    pub(super) number: usize,
    pub(super) clock: Clock,
    pub(super) window: Arc<Window>,
    pub(super) account: Account,
    pub(super) latency: Recorder,
    /// What the room's publishers sent, once they have ended.
    pub(super) sent: watch::Receiver<Option<Sent>>,
}

/// What it got.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Within the measured time.
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    /// `reset` frames.
    pub(super) resets: u64,
    pub(super) disconnected: bool,
}

impl Subscriber {
    /// Follows until everything that was sent is here, or nothing comes any more.
    pub(super) async fn run(mut self) -> Followed {
        let mut followed = Followed::default();
        followed.disconnected = self.follow(&mut followed).await.is_err();
        let sent = self.sent.borrow().clone();
        if let Some(sent) = sent {
            followed.lost = self.account.lost(&sent);
        }
        followed.duplicates = self.account.duplicates;
        followed.out_of_order = self.account.out_of_order;
        self.client.close().await;
        followed
    }

    async fn follow(&mut self, followed: &mut Followed) -> Result<()> {
        loop {
            let ended = self.sent.borrow_and_update().clone();
            if ended.as_ref().is_some_and(|sent| self.account.lost(sent) == 0) {
                return Ok(());
            }
            let came = tokio::select! {
                came = self.client.next() => came?,
                changed = self.sent.changed() => match changed {
                    Ok(()) => continue,
                    // The publishers failed, and that is told.
                    Err(_) => return Ok(()),
                },
                () = tokio::time::sleep(IDLE), if ended.is_some() => return Ok(()),
            };
            self.take(came, followed);
            while let Some(came) = self.client.ready()? {
                self.take(came, followed);
            }
        }
    }

    fn take(&mut self, came: Came, followed: &mut Followed) {
        match came {
            Came::Message(stamp) => self.count(stamp, followed),
            Came::Replay(stamps) => stamps.into_iter().for_each(|stamp| self.count(stamp, followed)),
            Came::Other(frame) if frame["type"] == "reset" => followed.resets += 1,
            Came::Other(_) | Came::Sent(_) => {}
        }
    }

    fn count(&mut self, stamp: Stamp, followed: &mut Followed) {
        let now = self.clock.now();
        if self.account.take(stamp) && self.window.has(now) {
            followed.delivered += 1;
            self.latency.record(self.number, now.saturating_sub(stamp.at));
        }
    }
}
