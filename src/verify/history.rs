//! A history: who saw what, when. One JSON object a line.
//!
//! ```
//! use millstream::verify::{Digest, Event, Fact, History};
//! let invoked = Fact::Invoked { room: millstream::model::Room::new("r")?, cid: millstream::model::Cid::new("c1")?,
//!     body: Digest::of_json(r#"{"text": "hi"}"#), attempt: 1 };
//! let history = History { events: vec![Event::new(5, "publisher-1", invoked)] };
//! let lines = history.to_lines();
//! assert!(lines.starts_with(r#"{"at_us":5,"who":"publisher-1","fact":{"invoked":"#), "{lines}");
//! assert_eq!(History::from_lines(&lines)?, history);
//! assert!(History::from_lines("{}").is_err());
//! # Ok::<(), millstream::Error>(())
//! ```

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Digest, Seen, Signal, Wants};
use crate::error::Error;
use crate::model::{Cid, Cursor, DeviceId, EntryId, ResetReason, Resume, Room, Since, UserId};

/// The name of a participant, a process, a group or a fault; cheap to copy.
pub type Name = Arc<str>;

/// All that was written down in a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Each participant's events are in the order in which it saw them; events of different
    /// participants are ordered by `at_us` only.
    pub events: Vec<Event>,
}

/// One thing that a participant saw or did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Microseconds on the one monotonic clock of the run. What leaves is stamped before it leaves,
    /// what comes after it came: an order that the stamps show was real.
    pub at_us: u64,
    /// The participant: `publisher-1`, `subscriber-3`, `endpoint-a`, `supervisor`.
    pub who: Name,
    /// What it saw or did.
    pub fact: Fact,
}

/// What there is to see or to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// This participant sends as this device. Once, before its first send.
    Publisher {
        /// The user of its token.
        user: UserId,
        /// Its device.
        device: DeviceId,
    },
    /// A send leaves; the same `cid` again with the next `attempt` when it is repeated.
    Invoked {
        /// Where to.
        room: Room,
        /// Its own id for the message.
        cid: Cid,
        /// What is sent.
        body: Digest,
        /// 1 at first.
        attempt: u32,
    },
    /// `sent` came.
    Accepted {
        /// Where to.
        room: Room,
        /// Which message.
        cid: Cid,
        /// Where it stands in the log.
        id: EntryId,
        /// Its number in the room.
        seq: u64,
        /// Whether it was known already.
        duplicate: bool,
    },
    /// `error` came.
    Refused {
        /// Where to.
        room: Room,
        /// Which message.
        cid: Cid,
        /// The error's code.
        code: Name,
        /// Not retryable means: definitely not stored by this attempt.
        retryable: bool,
    },
    /// The connection ended, or patience, before an answer came.
    Unanswered {
        /// Where to.
        room: Room,
        /// Which message.
        cid: Cid,
    },

    /// This participant reads as this device. Once, before it connects.
    Subscriber {
        /// The user of its token.
        user: UserId,
        /// Its device.
        device: DeviceId,
    },
    /// A connection was welcomed. Whatever was joined before is not joined any more.
    Connected,
    /// `joined` came: what is delivered from now on begins after `since`.
    Joined {
        /// The room.
        room: Room,
        /// What was asked; nothing: the saved cursor.
        asked: Option<Since>,
        /// How it began.
        resume: Resume,
        /// Why it was a reset.
        reason: Option<ResetReason>,
        /// Where it began.
        since: Cursor,
        /// Where the room ended then.
        head: Cursor,
    },
    /// A `message` or `event` frame came, or an entry of a `replay` frame.
    Delivered {
        /// The entry.
        #[serde(flatten)]
        seen: Seen,
        /// Whether it came in a `replay` frame.
        replay: bool,
    },
    /// `live` came.
    Live {
        /// The room.
        room: Room,
        /// Up to where it is complete.
        seq: u64,
    },
    /// `reset` came: delivery goes on after `from`.
    Reset {
        /// The room.
        room: Room,
        /// Why.
        reason: ResetReason,
        /// Where it goes on.
        from: Cursor,
    },
    /// `ack` leaves.
    Acked {
        /// The room.
        room: Room,
        /// Up to where.
        seq: u64,
    },
    /// The participant has done with this room: nothing later is owed to it.
    Left {
        /// The room.
        room: Room,
    },
    /// The connection ended.
    Disconnected,
    /// The application died with its connection: what it had not acknowledged it has not taken over.
    Crashed,

    /// This participant takes callbacks as this endpoint. Once, before the first call.
    Endpoint {
        /// Its consumer group, `callback:<name>`.
        group: Name,
        /// What is owed to it.
        wants: Wants,
        /// Only of these rooms; empty: of all.
        rooms: Vec<Room>,
    },
    /// A callback came.
    Called {
        /// The header `webhook-id`.
        webhook_id: Name,
        /// Digest of the whole body, byte for byte ([`Digest::of_bytes`]).
        bytes: Digest,
        /// What it was answered; 0: nothing.
        status: u16,
        /// Whether it carried `millstream-replay: true`.
        replay: bool,
        /// The entry in it.
        #[serde(flatten)]
        seen: Seen,
    },

    /// An entry that the log holds at the end.
    Logged {
        /// The partition's incarnation.
        epoch: Name,
        /// The entry.
        #[serde(flatten)]
        seen: Seen,
    },
    /// A row that the archive holds at the end.
    Archived {
        /// The entry.
        #[serde(flatten)]
        seen: Seen,
    },
    /// What the log held of this room before `id` may have been trimmed; without one, nothing was.
    Floor {
        /// The room.
        room: Room,
        /// The first id that must be there.
        id: EntryId,
    },
    /// Entries of this room between the two ids (exclusive) may be gone from everywhere: a fault
    /// that the chosen durability doesn't cover.
    Lost {
        /// The room.
        room: Room,
        /// The last one that was kept.
        after: EntryId,
        /// The first one that came after the fault.
        before: EntryId,
    },
    /// A device's saved cursor at the end.
    Saved {
        /// The user.
        user: UserId,
        /// The device.
        device: DeviceId,
        /// The room.
        room: Room,
        /// The cursor.
        cursor: Cursor,
    },
    /// Entries delivered to a group and not acknowledged at the end, or not yet delivered to it.
    Pending {
        /// The group.
        group: Name,
        /// How many.
        count: u64,
    },
    /// A dead letter at the end.
    Dead {
        /// The group.
        group: Name,
        /// The entry's room.
        room: Room,
        /// The entry's id.
        id: EntryId,
        /// Why it was parked.
        reason: Name,
    },
    /// A process's metric, summed over its labels. Metrics are of all rooms, so with them the history must
    /// hold what all rooms hold, those of the system too.
    Metric {
        /// The process.
        process: Name,
        /// The metric.
        name: Name,
        /// Its value.
        value: f64,
        /// Whether nothing is missing in it: the process was never killed, and had done its work.
        whole: bool,
    },
    /// A process ended.
    Exited {
        /// The process.
        process: Name,
        /// What ended it.
        asked: Signal,
        /// How long it took.
        took_ms: u64,
        /// What `shutdown.grace` allows it.
        grace_ms: u64,
        /// Its exit code, if it had one.
        status: Option<i32>,
    },
    /// A line of a process's log that says that something is wrong.
    LogText {
        /// The process.
        process: Name,
        /// `panic`, or another word for what kind of line it is.
        kind: Name,
        /// The line.
        text: String,
    },

    /// A fault begins or ends.
    Fault {
        /// Which.
        name: Name,
        /// Whether it begins.
        on: bool,
    },
    /// All faults have ended.
    Healed,
    /// Something that the run is to have tested has happened: `take-over`, `unclear-commit`.
    Happened {
        /// What.
        what: Name,
    },
    /// The final state is complete: everything had been drained, and all of it is in this history.
    Collected,
}

impl Event {
    /// `who` saw or did `fact`.
    pub fn new(at_us: u64, who: impl Into<Name>, fact: Fact) -> Self {
        Self { at_us, who: who.into(), fact }
    }
}

impl History {
    /// One line of JSON for each event.
    pub fn to_lines(&self) -> String {
        let line = |event| serde_json::to_string(event).expect("names and numbers always become JSON") + "\n";
        self.events.iter().map(line).collect()
    }

    /// The other way; empty lines don't count.
    ///
    /// # Errors
    /// [`Kind::Invalid`](crate::error::Kind::Invalid) naming the first line that is no event.
    pub fn from_lines(text: &str) -> Result<Self, Error> {
        let mut events = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let event = serde_json::from_str(line)
                .map_err(|e| Error::invalid(format!("read line {} of a history", number + 1)).caused_by(e))?;
            events.push(event);
        }
        Ok(Self { events })
    }
}
