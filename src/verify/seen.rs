//! What participants see and are: entries, endpoints' wishes, signals.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Digest, Name};
use crate::model::{Cid, DeviceId, EntryId, Room, UserId};

/// An entry, as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its room.
    pub room: Room,
    /// Where it stands.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A message.
    Message {
        /// Who sent it.
        user: UserId,
        /// From which device.
        device: DeviceId,
        /// Its sender's id for it.
        cid: Cid,
        /// What it says.
        body: Digest,
    },
    /// An event of this name.
    Event(Name),
}

/// What an endpoint wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wants {
    /// Only messages.
    Messages,
    /// Only events.
    Events,
    /// Both.
    Everything,
}

/// What a process was ended by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signal {
    /// It was asked, and may finish.
    #[serde(rename = "TERM")]
    Term,
    /// It was killed.
    #[serde(rename = "KILL")]
    Kill,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "room {} id {} seq {} ({})", self.room, self.id, self.seq, self.content)
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Message { user, device, cid, .. } => write!(f, "message {cid} of {user}/{device}"),
            Self::Event(name) => write!(f, "event {name}"),
        }
    }
}
