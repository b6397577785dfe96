//! The worker: a consumer group for each endpoint, side by side in one process.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::dispatch::{Dispatcher, Site};
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::standing;
use crate::config::StartFrom;
use crate::error::Result;
use crate::group::{Group, Lease, Settler};
use crate::model::{EntryId, PartitionId};
use crate::stream::Redis;

/// The consumer group of one endpoint.
pub(super) struct CallbackGroup {
    pub(super) redis: Redis,
    pub(super) dispatcher: Arc<Dispatcher>,
}

impl Group for CallbackGroup {
    type Handler = Lanes;

    fn name(&self) -> &str {
        &self.dispatcher.endpoint.group
    }

    async fn start(&self, partition: PartitionId) -> Result<EntryId> {
        match self.dispatcher.endpoint.start {
            StartFrom::Oldest => Ok(EntryId::ZERO),
            StartFrom::Now => {
                let newest = self.redis.newest_id(&self.redis.keys().log(partition)).await?;
                Ok(newest.unwrap_or(EntryId::ZERO))
            }
        }
    }

    async fn open(&self, lease: Lease, settler: Settler) -> Result<Lanes> {
        // A pause and a Retry-After from before a restart hold from the first attempt on.
        standing::load(&self.redis, &self.dispatcher).await?;
        let ledger = Ledger::open(self.redis.clone(), lease.partition, self.name()).await?;
        let (group, redis) = (self.name().to_owned(), Some(self.redis.clone()));
        let site = Site { lease, ledger, group, redis, stop: CancellationToken::new() };
        Ok(Lanes::new(self.dispatcher.clone(), site, settler))
    }
}
