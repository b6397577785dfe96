//! Settings that are one of a few words.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Span;

/// What `sent` promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On disk before the answer (`appendfsync always`); checked at start.
    Fsync,
    /// Acknowledged by that many replicas (`WAIT`).
    Replicated(u32),
    /// Whatever Redis does.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fsync => f.write_str("fsync"),
            Self::Replicated(n) => write!(f, "replicated({n})"),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl Serialize for Durability {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Durability {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let replicas =
            |text: &str| text.strip_prefix("replicated(")?.strip_suffix(')')?.parse().ok().filter(|n| *n > 0);
        match text.as_str() {
            "fsync" => Ok(Self::Fsync),
            "memory" => Ok(Self::Memory),
            other => replicas(other).map(Self::Replicated).ok_or_else(|| {
                serde::de::Error::invalid_value(serde::de::Unexpected::Str(other), &"fsync, replicated(n) or memory")
            }),
        }
    }
}

/// Where a device without a cursor begins in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FirstJoinText", into = "FirstJoinText")]
pub enum FirstJoin {
    /// At the oldest message that is held.
    Start,
    /// At the n-th newest message.
    Last(u32),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum FirstJoinText {
    Last(u32),
    Word(StartWord),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StartWord {
    Start,
}

impl From<FirstJoinText> for FirstJoin {
    fn from(text: FirstJoinText) -> Self {
        match text {
            FirstJoinText::Last(n) => Self::Last(n),
            FirstJoinText::Word(StartWord::Start) => Self::Start,
        }
    }
}

impl From<FirstJoin> for FirstJoinText {
    fn from(first: FirstJoin) -> Self {
        match first {
            FirstJoin::Last(n) => Self::Last(n),
            FirstJoin::Start => Self::Word(StartWord::Start),
        }
    }
}

/// Sizes of archive batches, by purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// 50 rows or 60 s.
    Default,
    /// 20 rows or 30 s.
    HighPerformance,
    /// 10 rows or 15 s.
    LowLatency,
    /// 100 rows or 120 s.
    HighThroughput,
    /// 5,000 rows or 1 s.
    Bulk,
}

impl Preset {
    /// Rows and time that close a batch.
    pub fn sizes(self) -> (usize, Span) {
        match self {
            Self::Default => (50, Span::secs(60)),
            Self::HighPerformance => (20, Span::secs(30)),
            Self::LowLatency => (10, Span::secs(15)),
            Self::HighThroughput => (100, Span::secs(120)),
            Self::Bulk => (5_000, Span::secs(1)),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::HighPerformance => "high_performance",
            Self::LowLatency => "low_latency",
            Self::HighThroughput => "high_throughput",
            Self::Bulk => "bulk",
        })
    }
}

/// What an endpoint wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointKind {
    /// Each message.
    Message,
    /// Each event of a room.
    RoomEvents,
    /// Everything: messages and events.
    Data,
}

/// Where a new endpoint begins in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StartFrom {
    /// At the oldest entry that the log holds.
    Oldest,
    /// With what comes after it was set up.
    Now,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
