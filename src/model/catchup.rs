//! What an edge asks of the replay workers, and what they answer: MessagePack in streams of Redis.
//!
//! Requests are idempotent: one that got no answer in time is asked again, and an answer that
//! comes twice is ignored the second time.

use serde::{Deserialize, Serialize};

use super::{Cursor, Entry, EntryId, EntryKind, Room};

/// Where delivery begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Since {
    /// At the oldest message that is held anywhere.
    Start,
    /// With what comes after the request.
    Now,
    /// At the n-th newest message.
    Last(u32),
    /// After the message with this number, whose id isn't known (0: at the start).
    Seq(u64),
    /// After this cursor.
    Cursor(Cursor),
}

/// How a join begins: the field `resume` of `joined`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resume {
    /// The cursor was honoured.
    Resumed,
    /// There was no cursor to honour.
    Fresh,
    /// The cursor could not be honoured; see [`ResetReason`].
    Reset,
}

impl Resume {
    /// Its name in frames and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resumed => "resumed",
            Self::Fresh => "fresh",
            Self::Reset => "reset",
        }
    }
}

/// Why delivery could not go on where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// What follows the cursor is held nowhere any more.
    Trimmed,
    /// The log's history is another than the cursor's.
    Forked,
    /// The room, or the cursor, is unknown.
    UnknownCursor,
}

impl ResetReason {
    /// Its name in frames and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::Forked => "forked",
            Self::UnknownCursor => "unknown_cursor",
        }
    }
}

/// What an edge asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// Where does `since` begin in this room, and what is the first page?
    Join(Since),
    /// The next page after this cursor, which an earlier answer ended with or a delivery reached.
    /// Verified like a cursor of a join.
    Page(Cursor),
    /// Messages before or after a seq (exclusive; neither: the newest), with the events between them.
    History {
        /// Only seqs lower than this.
        before: Option<u64>,
        /// Only seqs higher than this.
        after: Option<u64>,
        /// Messages at most.
        limit: u32,
    },
}

/// One request of an edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The edge's number for it.
    pub request: u64,
    /// The room it is about.
    pub room: Room,
    /// What is asked.
    pub ask: Ask,
}

/// The requests of one edge that waited together: one entry of a replay stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Whose inbox gets the answers.
    pub edge: String,
    /// The requests; all rooms are of the stream's partition.
    pub requests: Vec<Request>,
}

/// A part of a room's history, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Its entries. Their seqs are dense.
    pub entries: Vec<Entry>,
    /// Up to here the room is complete with this page: `id` may be beyond the last entry.
    pub upto: Cursor,
    /// Whether there is more that the page had no room for. If not, the log had ended at `upto`.
    pub more: bool,
}

/// Answer to [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Join`].
    Joined {
        /// Whether the cursor was honoured.
        resume: Resume,
        /// Why not.
        reason: Option<ResetReason>,
        /// Delivery begins after this.
        since: Cursor,
        /// The room's end.
        head: Cursor,
        /// What comes first.
        page: Page,
    },
    /// To [`Ask::Page`].
    Page {
        /// Set when delivery can't go on after the cursor: why, and after what the page begins.
        reset: Option<(ResetReason, Cursor)>,
        /// The entries.
        page: Page,
    },
    /// To [`Ask::History`].
    History {
        /// Messages and the events between them, oldest first.
        entries: Vec<Entry>,
        /// Whether there is more in the direction that was asked.
        more: bool,
        /// Lowest seq that is still held; 0 if the room has no message.
        floor: u64,
        /// The room's end.
        head: Cursor,
    },
    /// The request can't be answered now: ask again later.
    Unavailable,
}

/// One answer, for every request of that edge that asked the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The edge's numbers.
    pub requests: Vec<u64>,
    /// The answer.
    pub answer: Answer,
}

/// What workers, the API and other edges send to one edge: an entry of its inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EdgeNote {
    /// Answers of a replay worker.
    Answers(Vec<Answered>),
    /// A newer connection of this device is on another edge: the older one has to go.
    Replace {
        /// The user.
        user: String,
        /// The device.
        device: String,
        /// The older connection's number on its edge: a newer one there stays.
        connection: u64,
        /// The edge that waits for [`EdgeNote::Replaced`].
        reply_to: String,
        /// The number of the wait there.
        wait: u64,
    },
    /// The older connection is gone and its cursors are written.
    Replaced {
        /// The number from [`EdgeNote::Replace`].
        wait: u64,
    },
    /// Close a user's connections, or one device's, with 4505.
    Disconnect {
        /// The user.
        user: String,
        /// One device only.
        device: Option<String>,
    },
    /// The edge's own canary.
    Canary,
}

// Entries travel as arrays: `[ms, n, room, seq, is_event, envelope]`.
impl Serialize for Entry {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.kind == EntryKind::Event;
        (self.id.ms, self.id.n, &self.room, self.seq, event, &self.envelope).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (ms, n, room, seq, event, envelope) = Deserialize::deserialize(deserializer)?;
        let kind = if event { EntryKind::Event } else { EntryKind::Message };
        Ok(Self { id: EntryId::new(ms, n), room, seq, kind, envelope })
    }
}
