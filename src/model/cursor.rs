//! What a device has taken over in a room.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::EntryId;
use crate::error::Error;

/// A position in a room: everything up to `id`, and up to message number `seq`.
///
/// Stored in Redis as `id,seq`.
///
/// ```
/// use millstream::model::Cursor;
/// let cursor: Cursor = "1700000000000-0,42".parse()?;
/// assert_eq!(cursor.seq, 42);
/// assert_eq!(cursor.to_string(), "1700000000000-0,42");
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Cursor {
    /// The last entry taken over.
    pub id: EntryId,
    /// The number of the last message taken over; 0 before the first.
    pub seq: u64,
}

impl Cursor {
    /// Before everything.
    pub const START: Self = Self { id: EntryId::ZERO, seq: 0 };

    /// The cursor after `id`, whose message (or the message before that event) has number `seq`.
    pub const fn new(id: EntryId, seq: u64) -> Self {
        Self { id, seq }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{}", self.id, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || Error::invalid(format!("parse the cursor {text:?}: not id,seq"));
        let (id, seq) = text.split_once(',').ok_or_else(invalid)?;
        Ok(Self { id: id.parse().map_err(|_| invalid())?, seq: seq.parse().map_err(|_| invalid())? })
    }
}
