//! Cursors and read markers on their way to Redis: gathered, then written for all devices at once.
//!
//! **Invariant:** what is written was acknowledged by the device's client before.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::warn;

use crate::backoff::Backoff;
use crate::error::Result;
use crate::model::{Cursor, DeviceId, Room, UserId};
use crate::stream::{DeviceCursors, Redis};
use crate::telemetry::names;

/// Devices that are written at once: a write of everybody's cursors shall not hold up what comes after it.
const WRITE_DEVICES: usize = 500;

type Device = (UserId, DeviceId);

#[derive(Default)]
struct Changed {
    cursors: HashMap<Device, HashMap<Room, Cursor>>,
    read: HashMap<UserId, HashMap<Room, u64>>,
}

/// What changed since the last write.
pub(super) struct Cursors {
    changed: Mutex<Changed>,
    redis: Redis,
    ttl: Duration,
    /// Held from taking to having written: whoever waits for a device's cursors waits for those too
    /// that another write has taken.
    writing: tokio::sync::Mutex<()>,
}

/// Keeps the cursor that is further on. Ids grow by time, over losses of the log too.
fn raise(cursors: &mut HashMap<Room, Cursor>, room: Room, cursor: Cursor) {
    let kept = cursors.entry(room).or_insert(cursor);
    *kept = (*kept).max(cursor);
}

impl Cursors {
    pub(super) fn new(redis: Redis, ttl: Duration) -> Self {
        Self { changed: Mutex::default(), redis, ttl, writing: tokio::sync::Mutex::default() }
    }

    /// A device has taken over everything up to `cursor`.
    pub(super) fn acked(&self, user: &UserId, device: &DeviceId, room: &Room, cursor: Cursor) {
        let mut changed = self.lock();
        let cursors = changed.cursors.entry((user.clone(), device.clone())).or_default();
        raise(cursors, room.clone(), cursor);
    }

    /// A user has read everything up to `seq`.
    pub(super) fn read(&self, user: &UserId, room: &Room, seq: u64) {
        let mut changed = self.lock();
        let marker = changed.read.entry(user.clone()).or_default().entry(room.clone()).or_default();
        *marker = (*marker).max(seq);
    }

    /// How far a user has read in a room, if it is not written yet; 0 otherwise.
    pub(super) fn unwritten_read(&self, user: &UserId, room: &Room) -> u64 {
        self.lock().read.get(user).and_then(|markers| markers.get(room)).copied().unwrap_or(0)
    }

    /// What has changed of a device's cursor in a room and is not written yet.
    pub(super) fn unwritten(&self, user: &UserId, device: &DeviceId, room: &Room) -> Option<Cursor> {
        self.lock().cursors.get(&(user.clone(), device.clone()))?.get(room).copied()
    }

    /// Writes what changed of one device and its user, at the end of its connection.
    /// What can't be written stays for the next write.
    pub(super) async fn write_device(&self, user: &UserId, device: &DeviceId) -> Result<()> {
        let _writing = self.writing.lock().await;
        let taken = {
            let mut changed = self.lock();
            let key = (user.clone(), device.clone());
            Changed {
                cursors: changed.cursors.remove_entry(&key).into_iter().collect(),
                read: changed.read.remove_entry(user).into_iter().collect(),
            }
        };
        self.write(taken).await
    }

    /// Writes everything that changed.
    pub(super) async fn write_all(&self) -> Result<()> {
        let _writing = self.writing.lock().await;
        let taken = mem::take(&mut *self.lock());
        let began = Instant::now();
        let written = self.write(taken).await;
        metrics::histogram!(names::CURSOR_SAVE_SECONDS).record(began.elapsed());
        written
    }

    async fn write(&self, taken: Changed) -> Result<()> {
        let devices: Vec<DeviceCursors> = taken
            .cursors
            .iter()
            .map(|((user, device), cursors)| DeviceCursors {
                user: user.clone(),
                device: device.clone(),
                cursors: cursors.iter().map(|(room, cursor)| (room.clone(), *cursor)).collect(),
            })
            .collect();
        // A write that is given up, because the edge stops, is no write.
        let mut taken = Taken { cursors: self, changed: Some(taken) };
        let read = taken.changed.as_ref().map(|changed| changed.read.clone()).unwrap_or_default();
        self.write_taken(&devices, &read).await?;
        taken.changed = None;
        Ok(())
    }

    async fn write_taken(&self, devices: &[DeviceCursors], read: &HashMap<UserId, HashMap<Room, u64>>) -> Result<()> {
        for some in devices.chunks(WRITE_DEVICES) {
            self.redis.save_cursors(some, self.ttl).await?;
            let count = some.iter().map(|device| device.cursors.len()).sum::<usize>();
            metrics::counter!(names::CURSORS_SAVED).increment(count as u64);
        }
        for (user, markers) in read {
            let markers: Vec<(Room, u64)> = markers.iter().map(|(room, seq)| (room.clone(), *seq)).collect();
            self.redis.save_read_markers(user, &markers, self.ttl).await?;
        }
        Ok(())
    }

    /// Newer changes win over what comes back.
    fn put_back(&self, taken: Changed) {
        let mut changed = self.lock();
        for (device, cursors) in taken.cursors {
            let newer = changed.cursors.entry(device).or_default();
            for (room, cursor) in cursors {
                raise(newer, room, cursor);
            }
        }
        for (user, markers) in taken.read {
            let newer = changed.read.entry(user).or_default();
            for (room, seq) in markers {
                let marker = newer.entry(room).or_default();
                *marker = (*marker).max(seq);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Changed> {
        // No code that holds the lock can panic half-way through a change.
        self.changed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken out to be written; comes back unless it was.
struct Taken<'a> {
    cursors: &'a Cursors,
    changed: Option<Changed>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(changed) = self.changed.take() {
            self.cursors.put_back(changed);
        }
    }
}

/// Writes what changed every `interval`, until it is dropped.
pub(super) async fn run(cursors: Arc<Cursors>, interval: Duration) {
    let mut failures = Backoff::new(interval, interval);
    loop {
        tokio::time::sleep(interval).await;
        match cursors.write_all().await {
            Ok(()) => failures.reset(),
            Err(error) => {
                if failures.attempts() == 0 {
                    warn!(%error, "could not write cursors, they wait for the next time");
                }
                let _ = failures.next();
            }
        }
    }
}
