//! The archive as a group: a writer and a caretaker per owned partition.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use super::caretaker::Caretaker;
use super::gathering::Limits;
use super::initialise;
use super::summary::Summary;
use super::writer::{Shared, Token, Writer};
use crate::config::Settings;
use crate::error::Result;
use crate::group::{Delivery, Group, Handler, Lease, Settler};
use crate::model::{EntryId, PartitionId, Partitions};
use crate::store::{ARCHIVE, Store};
use crate::stream::Redis;

/// Batches of the runner that may wait for a writer: it reads on while one is being written.
const BATCHES_WAITING: usize = 8;

/// The group `archive`: writes every entry of the log to Postgres.
pub struct ArchiveGroup {
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    partitions: Partitions,
}

impl ArchiveGroup {
    /// The group on these servers.
    pub fn new(settings: &Settings, redis: Redis, store: Store, partitions: Partitions) -> Self {
        let shared = Shared {
            store,
            redis,
            limits: Limits::of(settings),
            permits: Semaphore::new(settings.archive.writers.max(1)),
            summary: Arc::default(),
        };
        Self { shared: Arc::new(shared), settings: Arc::new(settings.clone()), partitions }
    }

    pub(super) fn summary(&self) -> Arc<Summary> {
        self.shared.summary.clone()
    }
}

impl Group for ArchiveGroup {
    type Handler = ArchiveHandler;

    fn name(&self) -> &str {
        ARCHIVE
    }

    async fn start(&self, partition: PartitionId) -> Result<EntryId> {
        self.shared.store.archived(partition).await
    }

    async fn open(&self, lease: Lease, settler: Settler) -> Result<ArchiveHandler> {
        let (owner, archived) = initialise::open(&self.shared, self.partitions, lease.partition).await?;
        let token = Token::new(owner);
        let archived = watch::Sender::new(archived);
        let (to, incoming) = mpsc::channel(BATCHES_WAITING);
        let shared = Arc::clone(&self.shared);
        let caretaker = Caretaker {
            shared: Arc::clone(&self.shared),
            settings: Arc::clone(&self.settings),
            partitions: self.partitions,
            lease: lease.clone(),
            token: token.clone(),
            archived: archived.subscribe(),
        };
        let writer = Writer { shared, lease: lease.clone(), token, settler, archived };
        Ok(ArchiveHandler {
            lease,
            to,
            writer: AbortOnDropHandle::new(tokio::spawn(writer.run(incoming))),
            _caretaker: AbortOnDropHandle::new(tokio::spawn(caretaker.run())),
        })
    }
}

/// Hands what it gets to the partition's writer. Dropping it stops the writer at once: what it held
/// comes again, to the next owner.
pub struct ArchiveHandler {
    lease: Lease,
    to: mpsc::Sender<Vec<Delivery>>,
    writer: AbortOnDropHandle<()>,
    _caretaker: AbortOnDropHandle<()>,
}

impl Handler for ArchiveHandler {
    async fn handle(&mut self, batch: Vec<Delivery>) {
        if self.to.send(batch).await.is_ok() {
            return;
        }
        // The writer has ended: by a panic, which is ours to show so that the runner opens us anew …
        if let Err(ended) = (&mut self.writer).await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
        // … or because the lease is lost, and then nobody waits for us.
        self.lease.lost().await;
    }

    async fn close(self, grace: Duration) {
        let Self { lease, to, writer, _caretaker } = self;
        drop(to);
        if tokio::time::timeout(grace, writer).await.is_err() {
            warn!(partition = %lease.partition,
                "gave up writing partition {}: what it held comes again to the next owner", lease.partition);
        }
    }
}
