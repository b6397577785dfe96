//! What a user may do in which rooms.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::pattern::matches;
use crate::error::Error;
use crate::model::{ROOM_BYTES_MAX, Room, UserId};

/// What somebody wants to do in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Join, history, presence.
    Read,
    /// Send, signal.
    Write,
}

/// Rights in the rooms that a pattern matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// A room's name with `*`.
    pub pattern: String,
    /// To join, read history, see presence.
    pub read: bool,
    /// To send and signal.
    pub write: bool,
}

/// The rights of one user, as its token grants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rights {
    inbox: Room,
    grants: Vec<Grant>,
}

impl Rights {
    /// The rights of `user`: what the grants say, and reading the own inbox and `@all`.
    pub fn new(user: &UserId, grants: Vec<Grant>) -> Self {
        Self { inbox: Room::inbox(user), grants }
    }

    /// Whether they allow `access` in `room`. No match is a no.
    ///
    /// ```
    /// use millstream::auth::{Access, Rights};
    /// use millstream::model::{Room, UserId};
    /// let rights = Rights::new(&UserId::new("alice")?, vec!["team:*=rw".parse()?, "lobby=r".parse()?]);
    /// let allows = |room, access| rights.allows(&Room::new(room).unwrap(), access);
    /// assert!(allows("team:42", Access::Write));
    /// assert!(allows("lobby", Access::Read) && !allows("lobby", Access::Write));
    /// assert!(allows("@user:alice", Access::Read) && !allows("@user:bob", Access::Read));
    /// assert!(!allows("elsewhere", Access::Read));
    /// # Ok::<(), millstream::Error>(())
    /// ```
    pub fn allows(&self, room: &Room, access: Access) -> bool {
        let own = room == &self.inbox || room.as_str() == "@all";
        own && access == Access::Read || self.grants.iter().any(|grant| grant.allows(room, access))
    }
}

impl Grant {
    /// Reads the rights that a token writes for `pattern`: `r`, `w` or both. Other letters grant nothing.
    pub fn new(pattern: &str, letters: &str) -> Self {
        Self { pattern: pattern.to_owned(), read: letters.contains('r'), write: letters.contains('w') }
    }

    /// The rights as letters.
    pub fn letters(&self) -> &'static str {
        match (self.read, self.write) {
            (true, true) => "rw",
            (true, false) => "r",
            (false, true) => "w",
            (false, false) => "",
        }
    }

    fn allows(&self, room: &Room, access: Access) -> bool {
        let granted = match access {
            Access::Read => self.read,
            Access::Write => self.write,
        };
        granted && self.pattern.starts_with('@') == room.is_system() && matches(&self.pattern, room)
    }
}

impl FromStr for Grant {
    type Err = Error;

    /// Reads `PATTERN=rw`, as the command line writes it.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |why: &str| Error::invalid(format!("accept {text:?} as PATTERN=rw: {why}"));
        let (pattern, letters) = text.rsplit_once('=').ok_or_else(|| invalid("there is no ="))?;
        if letters.is_empty() || !letters.bytes().all(|byte| b"rw".contains(&byte)) {
            return Err(invalid("the rights are r, w or rw"));
        }
        let name = pattern.replace('*', "");
        if pattern.is_empty() || pattern.len() > ROOM_BYTES_MAX || !(name.is_empty() || Room::new(&name).is_ok()) {
            return Err(invalid("the pattern is a room's name with *"));
        }
        Ok(Self::new(pattern, letters))
    }
}

/// Grants as a token holds them: pattern → letters.
pub(super) fn from_map(map: BTreeMap<String, String>) -> Vec<Grant> {
    map.iter().map(|(pattern, letters)| Grant::new(pattern, letters)).collect()
}
