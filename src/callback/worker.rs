//! The worker: a consumer group for each endpoint, side by side in one process.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::dispatch::{Dispatcher, Site};
use super::endpoint::Endpoint;
use super::lanes::Lanes;
use super::ledger::Ledger;
use super::standing;
use crate::config::{RedisSettings, Settings, StartFrom};
use crate::error::{Error, Result};
use crate::group::{Group, Lease, Runner, Settler};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::shutdown::Shutdown;
use crate::sockets::{files_for, files_max, room, to_nodes};
use crate::stream::Redis;
use crate::telemetry::{CHECK_INTERVAL, Part, Readiness};

/// Calls all endpoints of `settings` back until `shutdown`. Without endpoints it is ready and idle.
///
/// Dropping the future is like killing the worker: what was not acknowledged comes again.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config), before anything is started, with all that is wrong
/// with the endpoints.
pub async fn run(
    settings: &Settings,
    redis: Redis,
    partitions: Partitions,
    shutdown: Shutdown,
    readiness: &Readiness,
) -> Result<()> {
    // Stopping because of a failure stops this worker, not the process around it.
    let shutdown = shutdown.part();
    let dispatchers = Endpoint::all(&settings.callback)?
        .into_iter()
        .map(|endpoint| Dispatcher::new(endpoint).map(Arc::new))
        .collect::<Result<Vec<_>>>()?;
    let part = readiness.check("callback");
    if dispatchers.is_empty() {
        info!("no endpoints are set up: there is nothing to call back");
        idle(&redis, &part, &shutdown).await;
        return Ok(());
    }
    warn_of_files(&dispatchers, own_files(dispatchers.len(), &settings.redis, redis.masters()));
    // Ends after the groups: their last attempts may bring news to keep.
    let groups_ended = Shutdown::new();
    let (mut groups, mut keepers) = (JoinSet::new(), JoinSet::new());
    for dispatcher in dispatchers {
        info!(endpoint = dispatcher.endpoint.name, "calling {} back", dispatcher.endpoint.name);
        keepers.spawn(standing::keep(redis.clone(), dispatcher.clone(), groups_ended.clone()));
        let runner = Runner::new(redis.clone(), settings.group.clone(), partitions)
            .grace(*settings.shutdown.grace)
            .readiness(part.clone());
        groups.spawn(runner.run(CallbackGroup { redis: redis.clone(), dispatcher }, shutdown.clone()));
    }
    let ended = all(&mut groups, &shutdown).await;
    groups_ended.request();
    while keepers.join_next().await.is_some() {}
    ended
}

/// The connections to Redis of so many groups' readers, and of what they share.
fn own_files(groups: usize, redis: &RedisSettings, masters: Option<usize>) -> u64 {
    // In a cluster each partition is read by itself.
    let readers = if masters.is_some() { u64::from(redis.partitions) } else { 1 };
    to_nodes(masters) + groups as u64 * readers
}

/// Says that attempts may find no file. They are not held back for that: a bound for all endpoints together would
/// let one that answers late delay the others. An attempt without a file is made again and uses nothing up.
fn warn_of_files(dispatchers: &[Arc<Dispatcher>], own: u64) {
    let attempts: usize = dispatchers.iter().map(|dispatcher| dispatcher.endpoint.concurrency).sum();
    let files = files_max();
    let (left, needed) = (room(files, own), files_for(attempts, own));
    if let (Some(files), true) = (files, left < attempts) {
        warn!(
            attempts,
            left,
            "the process may open {files} files: {left} are left for {attempts} attempts at the same time (the endpoints' \
             concurrency together); those that find none are made again later; raise ulimit -n to {needed} (systemd: \
             LimitNOFILE=), or lower concurrency"
        );
    }
}

/// Waits for all groups. One that fails ends the worker: a process that calls only some of its
/// endpoints back, and says nothing, would be worse than one that is started again.
async fn all(groups: &mut JoinSet<Result<()>>, shutdown: &Shutdown) -> Result<()> {
    let mut first = Ok(());
    while let Some(ended) = groups.join_next().await {
        let ended = ended.unwrap_or_else(|e| Err(Error::internal("run the group of an endpoint").caused_by(e)));
        if ended.is_err() && first.is_ok() {
            shutdown.request();
            first = ended;
        }
    }
    first
}

/// Says that Redis answers, until `shutdown`.
async fn idle(redis: &Redis, part: &Part, shutdown: &Shutdown) {
    loop {
        part.report(&redis.ping().await);
        if !shutdown.sleep(CHECK_INTERVAL).await {
            return;
        }
    }
}

/// The consumer group of one endpoint.
pub(super) struct CallbackGroup {
    pub(super) redis: Redis,
    pub(super) dispatcher: Arc<Dispatcher>,
}

impl Group for CallbackGroup {
    type Handler = Lanes;

    fn name(&self) -> &str {
        self.dispatcher.endpoint.group()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_cluster_a_group_reads_each_partition_by_itself() {
        let redis = RedisSettings { partitions: 16, ..RedisSettings::default() };
        assert_eq!(own_files(3, &redis, None), 4);
        assert_eq!(own_files(3, &redis, Some(6)), 58);
    }
}
