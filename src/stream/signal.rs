//! Signals: published on a channel per partition, heard by every edge, stored nowhere.

use std::time::Duration;

use bytes::Bytes;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use tokio::sync::broadcast;
use tracing::warn;

use super::failure::failed;
use super::{Arg, Redis};
use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::{PartitionId, Partitions};

/// How often a reader looks whether its node of a cluster is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Longest attempt to begin to listen; one is enough for a Redis that is slow.
const LISTEN: Duration = Duration::from_secs(5);

/// What arrives on the channels of signals. Best effort: a lost connection loses what was sent meanwhile.
///
/// In a cluster every node hears what is published on any, so it listens to one, and to another when
/// that is gone.
pub struct SignalReader {
    redis: Redis,
    channels: Vec<String>,
    listener: Listener,
}

struct Listener {
    client: SubscriberClient,
    messages: broadcast::Receiver<fred::types::Message>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

impl Redis {
    /// Publishes a signal to whoever listens now.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn send_signal(&self, partition: PartitionId, payload: Bytes) -> Result<()> {
        let args = vec![Arg::from(self.keys().signal(partition)), payload.into()];
        self.command("PUBLISH", args).await.map(|_| ())
    }

    /// Listens to the signals of all partitions, on a connection of its own; waits for a Redis that has
    /// gone away. Dropping it loses nothing. While it listens, [`Redis::edge_is_connected`] says so of `edge`.
    ///
    /// # Errors
    /// As [`Redis::another`].
    pub async fn signals(&self, edge: &str, partitions: Partitions) -> Result<SignalReader> {
        let mut channels: Vec<String> = partitions.all().map(|partition| self.keys().signal(partition)).collect();
        channels.push(self.keys().edge_presence(edge));
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        loop {
            // In a cluster each attempt goes to another node.
            match tokio::time::timeout(LISTEN, self.listen(&channels)).await {
                Ok(Ok(listener)) => return Ok(SignalReader { redis: self.clone(), channels, listener }),
                Ok(Err(error)) if !error.is_retryable() => return Err(error),
                Ok(Err(_)) | Err(_) if backoff.attempts() > 0 => {}
                Ok(Err(error)) => warn!(%error, "can't listen to signals, waiting for Redis"),
                Err(_) => warn!("can't listen to signals, waiting for Redis"),
            }
            tokio::time::sleep(backoff.next()).await;
        }
    }

    async fn listen(&self, channels: &[String]) -> Result<Listener> {
        let client = self.subscriber()?;
        let messages = client.message_rx();
        let connecting = client.connect();
        let resubscribing = client.manage_subscriptions();
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connecting.await;
            resubscribing.abort();
        }));
        let listener = Listener { client, messages, _task: task };
        listener.client.wait_for_connect().await.map_err(|e| failed("connect for signals", e))?;
        for channel in channels {
            listener.client.subscribe(channel.as_str()).await.map_err(|e| failed("listen to signals", e))?;
        }
        Ok(listener)
    }
}

impl SignalReader {
    /// The next signal; nothing when the connection is closed for good.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let Ok(message) = tokio::time::timeout(LOOK, self.listener.messages.recv()).await else {
                self.look().await;
                continue;
            };
            match message {
                Ok(message) => {
                    if let Some(payload) = message.value.into_bytes() {
                        return Some(payload);
                    }
                }
                // Signals are dropped first under pressure.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return None,
            }
        }
    }

    async fn look(&mut self) {
        if !self.redis.is_cluster() || self.listener.client.is_connected() {
            return;
        }
        let listening = tokio::time::timeout(LOOK, self.redis.listen(&self.channels)).await;
        if let Ok(Ok(listener)) = listening {
            self.listener = listener;
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.quit().await });
        }
    }
}
