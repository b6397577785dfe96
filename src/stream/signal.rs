//! Signals: published on a channel per partition, heard by every edge, stored nowhere.

use bytes::Bytes;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike as _, EventInterface as _, PubsubInterface as _};
use tokio::sync::broadcast;

use super::Redis;
use super::connection::failed;
use crate::error::Result;
use crate::model::{PartitionId, Partitions};

/// What arrives on the channels of signals. Best effort: a lost connection loses what was sent meanwhile.
pub struct SignalReader {
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
        let _heard: i64 = self
            .client()
            .publish(self.keys().signal(partition), payload)
            .await
            .map_err(|e| failed("publish a signal", e))?;
        Ok(())
    }

    /// Listens to the signals of all partitions, on a connection of its own.
    ///
    /// # Errors
    /// As [`Redis::connect`].
    pub async fn signals(&self, partitions: Partitions) -> Result<SignalReader> {
        let client = self.subscriber()?;
        let messages = client.message_rx();
        let connecting = client.connect();
        let resubscribing = client.manage_subscriptions();
        let task = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(async move {
            let _ = connecting.await;
            resubscribing.abort();
        }));
        client.wait_for_connect().await.map_err(|e| failed("connect for signals", e))?;
        for partition in partitions.all() {
            client.subscribe(self.keys().signal(partition)).await.map_err(|e| failed("listen to signals", e))?;
        }
        Ok(SignalReader { client, messages, _task: task })
    }
}

impl SignalReader {
    /// The next signal; nothing when the connection is closed for good.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.messages.recv().await {
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
}

impl Drop for SignalReader {
    fn drop(&mut self) {
        let client = self.client.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { client.quit().await });
        }
    }
}
