//! Positions in the log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::Error;

/// A Redis stream id, `ms-n`: a position in the log of a partition.
///
/// It grows along a partition, so along each room; `ms` is the time of acceptance.
/// Source: Redis docs, "Redis Streams", entry ids.
///
/// ```
/// use millstream::model::EntryId;
/// let id: EntryId = "1700000000000-3".parse()?;
/// assert!(id < id.next());
/// assert_eq!(id.to_string(), "1700000000000-3");
/// assert!("1700000000000".parse::<EntryId>().is_err());
/// # Ok::<(), millstream::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch.
    pub ms: u64,
    /// Number within the millisecond.
    pub n: u64,
}

impl EntryId {
    /// Before every entry.
    pub const ZERO: Self = Self { ms: 0, n: 0 };
    /// After every entry.
    pub const MAX: Self = Self { ms: u64::MAX, n: u64::MAX };

    /// The id `ms-n`.
    pub const fn new(ms: u64, n: u64) -> Self {
        Self { ms, n }
    }

    /// The smallest id after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.n.checked_add(1) {
            Some(n) => Self { ms: self.ms, n },
            None => Self { ms: self.ms.saturating_add(1), n: 0 },
        }
    }

    /// The largest id before this one; [`EntryId::ZERO`] stays.
    #[must_use]
    pub const fn previous(self) -> Self {
        match (self.ms, self.n) {
            (0, 0) => Self::ZERO,
            (ms, 0) => Self { ms: ms - 1, n: u64::MAX },
            (ms, n) => Self { ms, n: n - 1 },
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

impl FromStr for EntryId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = |part: &str| -> Option<u64> {
            // `u64::from_str` takes a plus sign; a stream id has none.
            part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
        };
        let (ms, n) = text.split_once('-').ok_or_else(|| Error::invalid(format!("parse the id {text:?}: not ms-n")))?;
        match (parse(ms), parse(n)) {
            (Some(ms), Some(n)) => Ok(Self { ms, n }),
            _ => Err(Error::invalid(format!("parse the id {text:?}: not ms-n"))),
        }
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
