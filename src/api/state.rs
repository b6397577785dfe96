//! What the calls share, and whether it can be reached.

use std::sync::Arc;

use crate::auth::ApiKey;
use crate::config::Settings;
use crate::error::Result;
use crate::model::{EdgeNote, Partitions};
use crate::publish::{Known, Publisher};
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry::{CHECK_INTERVAL, Readiness};

/// What the calls share.
pub(super) struct Api {
    pub(super) settings: Arc<Settings>,
    pub(super) partitions: Partitions,
    pub(super) redis: Redis,
    pub(super) store: Store,
    pub(super) publisher: Publisher,
    pub(super) key: Option<ApiKey>,
    pub(super) readiness: Readiness,
}

impl Api {
    pub(super) async fn new(settings: Arc<Settings>, redis: Redis, store: Store, readiness: Readiness) -> Result<Self> {
        let partitions = Partitions::new(settings.redis.partitions)?;
        let publisher = Publisher::start(&redis, &settings, partitions, Known::new(partitions, None)).await?;
        let key = ApiKey::new(&settings.api.key);
        Ok(Self { settings, partitions, redis, store, publisher, key, readiness })
    }

    /// Sends a note to every edge that is alive.
    pub(super) async fn tell_edges(&self, note: &EdgeNote) -> Result<()> {
        for edge in self.redis.live_edges().await? {
            self.redis.send_to_edge(&edge, note).await?;
        }
        Ok(())
    }
}

/// Makes a round trip to what the calls depend on, again and again, until it is dropped.
pub(super) async fn watch(api: Arc<Api>, readiness: Readiness) {
    let (redis, postgres) = (readiness.check("redis"), readiness.check("postgres"));
    loop {
        redis.report(&api.redis.ping().await);
        postgres.report(&api.store.ping().await);
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}
