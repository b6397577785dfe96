//! How often each unfinished item of a partition was attempted, kept in Redis over restarts.
//!
//! Only items that failed are in it, so in good times it costs nothing. A record that can't be
//! written is lost: then an endpoint gets more attempts than it should, never fewer.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::debug;

use crate::error::Result;
use crate::group::Delivery;
use crate::model::PartitionId;
use crate::stream::Redis;

/// Records nobody asked for go away with their partition's hash after this time without a change.
const KEPT: Duration = Duration::from_secs(30 * 86_400);

/// What is known of an item's attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Record {
    /// Attempts that failed.
    pub(super) failures: u32,
    /// When the next one is due, in milliseconds since the epoch.
    pub(super) due_ms: u64,
}

/// The records of one endpoint in one partition.
pub(super) struct Ledger {
    redis: Option<Redis>,
    key: String,
    /// What was there when the partition was taken over.
    before: Mutex<HashMap<String, Record>>,
}

impl Ledger {
    /// Reads the records that an earlier owner of the partition left.
    ///
    /// # Errors
    /// As Redis answers.
    pub(super) async fn open(redis: Redis, partition: PartitionId, group: &str) -> Result<Self> {
        let key = redis.keys().attempts(partition, group);
        let mut values = redis.command("HGETALL", vec![key.as_str()]).await?.list()?.into_iter();
        let mut before = HashMap::new();
        while let (Some(field), Some(value)) = (values.next(), values.next()) {
            if let Some(record) = Record::parse(value.text()?) {
                before.insert(field.text()?.to_owned(), record);
            }
        }
        Ok(Self { redis: Some(redis), key, before: Mutex::new(before) })
    }

    /// A ledger that forgets, for tests of everything else.
    #[cfg(test)]
    pub(super) fn forgetful() -> Self {
        Self { redis: None, key: String::new(), before: Mutex::default() }
    }

    /// What is known of an item that is taken up.
    pub(super) fn take(&self, delivery: &Delivery) -> Record {
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_empty() { Record::default() } else { before.remove(&field(delivery)).unwrap_or_default() }
    }

    /// An attempt failed.
    pub(super) async fn failed(&self, delivery: &Delivery, record: Record) {
        let Some(redis) = &self.redis else { return };
        let args = vec![self.key.clone(), field(delivery), record.to_string()];
        let written = async {
            redis.command("HSET", args).await?;
            redis.command("EXPIRE", vec![self.key.clone(), KEPT.as_secs().to_string()]).await
        };
        if let Err(error) = written.await {
            debug!(entry.id = %delivery.id, %error, "an attempt was not written down: a restart would repeat it");
        }
    }

    /// The item is settled.
    pub(super) async fn settled(&self, delivery: &Delivery) {
        let Some(redis) = &self.redis else { return };
        if let Err(error) = redis.command("HDEL", vec![self.key.clone(), field(delivery)]).await {
            debug!(entry.id = %delivery.id, %error, "a record of attempts was left behind");
        }
    }
}

/// Ids of the log and of the stream of redeliveries are given by different streams.
fn field(delivery: &Delivery) -> String {
    match delivery.replay_of {
        Some(_) => format!("r{}", delivery.id),
        None => delivery.id.to_string(),
    }
}

impl Record {
    /// How long until the next attempt is due.
    pub(super) fn wait(&self, now_ms: u64) -> Duration {
        Duration::from_millis(self.due_ms.saturating_sub(now_ms))
    }

    fn parse(text: &str) -> Option<Self> {
        let (failures, due_ms) = text.split_once(',')?;
        Some(Self { failures: failures.parse().ok()?, due_ms: due_ms.parse().ok()? })
    }
}

impl std::fmt::Display for Record {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.failures, self.due_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_written() {
        let record = Record { failures: 3, due_ms: 1_700_000_000_000 };
        assert_eq!(Record::parse(&record.to_string()), Some(record));
        assert_eq!(Record::parse("nonsense"), None);
        assert_eq!(record.wait(1_700_000_000_001), Duration::ZERO);
    }
}
