//! Who is here: receivers by room, connections by user.
//!
//! # Design
//! Rooms are spread over shards, each behind its own lock, held only to add, remove, or push to the
//! receivers of one room; a user's connections are spread likewise. Receivers of a room stand in a
//! row, so that handing a batch to a thousand of them is one walk, and removing one is a swap.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indexmap::IndexMap;
use tokio_util::sync::CancellationToken;

use super::broadcast::{RoomBatch, SignalFrame};
use super::control::Control;
use super::outbox::{Note, Outbox, SubscriptionId};
use crate::model::{DeviceId, Room, UserId};

/// Enough that two busy rooms seldom share a lock, few enough to cost nothing.
const SHARDS: usize = 64;

struct Receiver {
    subscription: SubscriptionId,
    outbox: Arc<Outbox>,
}

/// Receivers of a room by the number of their connection.
type Receivers = IndexMap<u64, Receiver>;

/// A connection that has said hello.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    pub(super) device: DeviceId,
    pub(super) outbox: Arc<Outbox>,
    /// Cancelled when the connection is gone and its cursors are written.
    pub(super) ended: CancellationToken,
}

/// A map in shards, each behind its own lock.
type Shards<K, V> = Box<[Mutex<HashMap<K, V>>]>;

/// All connections of the edge and what they follow.
pub(super) struct Registry {
    rooms: Shards<Room, Receivers>,
    users: Shards<UserId, Vec<Connection>>,
    hasher: RandomState,
}

impl Registry {
    pub(super) fn new() -> Self {
        Self {
            rooms: (0..SHARDS).map(|_| Mutex::default()).collect(),
            users: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }

    /// From now on this subscription gets the room's live entries.
    pub(super) fn subscribe(&self, room: &Room, subscription: SubscriptionId, outbox: &Arc<Outbox>) {
        let receiver = Receiver { subscription, outbox: outbox.clone() };
        self.room(room).entry(room.clone()).or_default().insert(outbox.connection, receiver);
    }

    /// From now on it doesn't.
    pub(super) fn unsubscribe(&self, room: &Room, connection: u64) {
        let mut rooms = self.room(room);
        if let Some(receivers) = rooms.get_mut(room) {
            receivers.swap_remove(&connection);
            if receivers.is_empty() {
                rooms.remove(room);
            }
        }
    }

    /// Whether anybody here follows a room.
    pub(super) fn has_receivers(&self, room: &str) -> bool {
        self.shard(&self.rooms, room).contains_key(room)
    }

    /// Hands live entries to everybody who follows their room; gives how many backlogs were dropped for it.
    pub(super) fn deliver(&self, batch: &Arc<RoomBatch>) -> usize {
        let rooms = self.room(batch.room());
        let Some(receivers) = rooms.get(batch.room()) else { return 0 };
        receivers.values().filter(|receiver| receiver.outbox.push_batch(receiver.subscription, batch)).count()
    }

    /// Hands a signal to everybody who follows the room, but for the connection it came from.
    pub(super) fn signal(&self, room: &Room, from: Option<u64>, frame: &Arc<SignalFrame>) {
        let rooms = self.room(room);
        for (connection, receiver) in rooms.get(room).into_iter().flatten() {
            if Some(*connection) != from {
                receiver.outbox.push_signal(receiver.subscription, frame);
            }
        }
    }

    /// Adds a connection of a user, unless there are `most` already. An older connection of the same
    /// device is taken out and given back: it has to go.
    pub(super) fn enter(&self, user: &UserId, connection: Connection, most: usize) -> Result<Option<Connection>, ()> {
        let mut users = self.user(user);
        let connections = users.entry(user.clone()).or_default();
        let older = connections.iter().position(|other| other.device == connection.device);
        let older = older.map(|at| connections.swap_remove(at));
        if older.is_none() && most > 0 && connections.len() >= most {
            return Err(());
        }
        connections.push(connection);
        Ok(older)
    }

    /// Takes a connection out.
    pub(super) fn exit(&self, user: &UserId, connection: u64) {
        let mut users = self.user(user);
        if let Some(connections) = users.get_mut(user) {
            connections.retain(|other| other.outbox.connection != connection);
            if connections.is_empty() {
                users.remove(user);
            }
        }
    }

    /// The connections of a user, or of one device.
    pub(super) fn connections(&self, user: &str, device: Option<&str>) -> Vec<Connection> {
        let users = self.shard(&self.users, user);
        let mine = users.get(user).into_iter().flatten();
        mine.filter(|connection| device.is_none_or(|device| connection.device.as_str() == device)).cloned().collect()
    }

    /// Sends a note, made for each, to every connection.
    pub(super) fn control_all(&self, mut control: impl FnMut() -> Control) {
        for shard in &self.users {
            for connection in lock(shard).values().flatten() {
                connection.outbox.push(Note::Control(control()));
            }
        }
    }

    /// Bytes that wait for all connections, and how many of these read too slowly.
    pub(super) fn backlog(&self) -> (usize, usize) {
        let (mut bytes, mut slow) = (0, 0);
        for shard in &self.users {
            for connection in lock(shard).values().flatten() {
                let (waiting, is_slow) = connection.outbox.backlog();
                bytes += waiting;
                slow += usize::from(is_slow);
            }
        }
        (bytes, slow)
    }

    fn room(&self, room: &Room) -> MutexGuard<'_, HashMap<Room, Receivers>> {
        self.shard(&self.rooms, room.as_str())
    }

    fn user(&self, user: &UserId) -> MutexGuard<'_, HashMap<UserId, Vec<Connection>>> {
        self.shard(&self.users, user.as_str())
    }

    fn shard<'a, K: Eq + Hash, V>(
        &self,
        shards: &'a [Mutex<HashMap<K, V>>],
        name: &str,
    ) -> MutexGuard<'a, HashMap<K, V>> {
        let hash = self.hasher.hash_one(name);
        lock(&shards[usize::try_from(hash % SHARDS as u64).unwrap_or_default()])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds one of these locks can panic half-way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
