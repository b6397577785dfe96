//! Entries that wait in memory for their turn, and those for which there is no room.
//!
//! Beyond [`HELD_BYTES_MAX`] an entry waits without its content, which is read from its stream
//! again when its turn comes: so a dead endpoint's backlog costs a few hundred bytes an entry, and
//! taking a batch never waits (a handler that waits can't be closed).

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::warn;

use super::dispatch::{Counted, Site};
use crate::backoff::Backoff;
use crate::error::Result;
use crate::group::Delivery;
use crate::model::{Entry, Room};
use crate::stream::RawEntry;

/// Content of entries of one partition and endpoint that waits in memory, in bytes.
const HELD_BYTES_MAX: usize = 4 << 20;
/// First and longest wait before an entry is read again when Redis has no answer.
const REREAD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// How much content the entries of one partition may hold.
#[derive(Debug, Clone)]
pub(super) struct Budget(Arc<Semaphore>);

/// An entry that waits for its turn.
pub(super) struct Held {
    /// What settles it. Its content may be missing.
    pub(super) delivery: Delivery,
    /// Its room.
    pub(super) room: Room,
    /// The room it takes in the budget; nothing: its content is missing.
    content: Option<OwnedSemaphorePermit>,
    _waiting: Counted,
}

/// Whether an entry is still there.
pub(super) enum Found {
    /// With all its content.
    Entry(Entry),
    /// It was trimmed by force meanwhile.
    Gone,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(HELD_BYTES_MAX)))
    }

    fn take(&self, delivery: &Delivery) -> Option<OwnedSemaphorePermit> {
        let bytes: usize = delivery.raw.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        self.0.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

impl Held {
    pub(super) fn new(mut delivery: Delivery, room: Room, budget: &Budget, waiting: &Gauge) -> Self {
        let content = budget.take(&delivery);
        match content {
            Some(_) => unpin(&mut delivery),
            None => delivery.raw.fields = Vec::new(),
        }
        Self { delivery, room, content, _waiting: Counted::new(waiting) }
    }

    /// Its entry, read again if its content is missing; waits until Redis answers.
    ///
    /// # Errors
    /// [`Kind::Corrupt`](crate::error::Kind::Corrupt): park it.
    pub(super) async fn open(&mut self, site: &Site) -> Result<Found> {
        if self.content.is_none() {
            match self.read_again(site).await {
                Some(raw) => self.delivery.raw = raw,
                None => return Ok(Found::Gone),
            }
        }
        self.delivery.entry().map(Found::Entry)
    }

    async fn read_again(&self, site: &Site) -> Option<RawEntry> {
        let Some(redis) = &site.redis else { return None };
        let (keys, partition, id) = (redis.keys(), site.lease.partition, self.delivery.id);
        let stream = match self.delivery.replay_of {
            Some(_) => keys.redeliver(partition, &site.group),
            None => keys.log(partition),
        };
        let mut backoff = Backoff::new(REREAD.0, REREAD.1);
        loop {
            match redis.range(&stream, id, id, 1).await {
                Ok(found) => return found.into_iter().next().filter(|raw| !raw.fields.is_empty()),
                Err(error) => {
                    if backoff.attempts() == 0 {
                        warn!(group = site.group, %partition, entry.id = %id, %error, "failed to read entry {id} again");
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// Copies what may be held for long out of the connection's buffer: one small entry would keep the
/// whole read in memory.
fn unpin(delivery: &mut Delivery) {
    let fields = &mut delivery.raw.fields;
    let mut all = BytesMut::with_capacity(fields.iter().map(|(name, value)| name.len() + value.len()).sum());
    for (name, value) in fields.iter() {
        all.extend_from_slice(name);
        all.extend_from_slice(value);
    }
    let mut all = all.freeze();
    for (name, value) in fields {
        *name = all.split_to(name.len());
        *value = all.split_to(value.len());
    }
}
