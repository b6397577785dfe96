//! What the server can say.

use super::{ErrorCode, RequestRef};
use crate::model::{Cursor, Entry, EntryId, ResetReason, Resume};

/// One frame of the server, borrowed from whatever it tells about.
#[derive(Debug, Clone)]
pub enum ServerFrame<'a> {
    /// The connection stands, or goes on with a new token.
    Welcome(Welcome<'a>),
    /// A join was accepted; delivery begins after `since`.
    Joined {
        /// The join's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: &'a str,
        /// Whether the cursor was honoured.
        resume: Resume,
        /// Why not.
        reason: Option<ResetReason>,
        /// Delivery begins after this.
        since: Cursor,
        /// The room's end.
        head: Cursor,
        /// Messages after the user's read marker.
        unread: u64,
    },
    /// Entries that were missed.
    Replay {
        /// The room.
        room: &'a str,
        /// Oldest first.
        entries: &'a [Entry],
        /// Whether more replay follows.
        more: bool,
    },
    /// The catch-up is complete.
    Live {
        /// The room.
        room: &'a str,
        /// Complete up to here.
        seq: u64,
    },
    /// A `message` or `event`, as it happens.
    Entry(&'a Entry),
    /// A message is durable.
    Sent {
        /// The send's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: &'a str,
        /// The device's own id for the message.
        cid: &'a str,
        /// Its position.
        id: EntryId,
        /// Its number.
        seq: u64,
        /// Whether this repeats an earlier answer.
        duplicate: bool,
    },
    /// Somebody's signal.
    Signal {
        /// The room.
        room: &'a str,
        /// Whose.
        user: &'a str,
        /// Compact JSON text.
        body: &'a str,
    },
    /// How far a user has come.
    Receipt {
        /// The room.
        room: &'a str,
        /// Whose.
        user: &'a str,
        /// The last message that a device of the user took over.
        received: u64,
        /// The last message that the user read.
        read: u64,
    },
    /// Messages of the past.
    History {
        /// The request's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: &'a str,
        /// Oldest first.
        entries: &'a [Entry],
        /// Whether there is more in the direction that was asked.
        more: bool,
        /// Lowest seq that is still held.
        floor: u64,
        /// The room's end.
        head: Cursor,
    },
    /// Who is there.
    Presence {
        /// The request's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: &'a str,
        /// Users.
        count: u64,
        /// Each of them; left out above 200.
        members: Option<&'a [Member<'a>]>,
    },
    /// Delivery could not go on where it was.
    Reset {
        /// The room.
        room: &'a str,
        /// Why.
        reason: ResetReason,
        /// Delivery goes on after this.
        from: Cursor,
    },
    /// The room is followed no more.
    Left {
        /// The leave's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: &'a str,
        /// Why, if the client didn't ask for it.
        reason: Option<LeftReason>,
    },
    /// Answer to `ping`.
    Pong {
        /// The ping's `ref`.
        request_ref: Option<&'a RequestRef>,
    },
    /// A frame was refused, or could not be served. See [`Refusal`](super::Refusal).
    Error {
        /// The request's `ref`.
        request_ref: Option<&'a RequestRef>,
        /// The room.
        room: Option<&'a str>,
        /// The device's own id for the message.
        cid: Option<&'a str>,
        /// The kind of refusal; says whether it is retryable.
        code: ErrorCode,
        /// For a person.
        message: &'a str,
        /// When trying again makes sense.
        retry_after_ms: Option<u64>,
    },
    /// A close follows.
    Bye {
        /// Why, in a word: `replaced`, `restart` …
        reason: &'a str,
        /// Whether the client should come back.
        reconnect: bool,
        /// When.
        reconnect_after_ms: Option<u64>,
    },
}

/// The content of `welcome`.
#[derive(Debug, Clone, Copy)]
pub struct Welcome<'a> {
    /// The `ref` of the `hello` or `refresh`.
    pub request_ref: Option<&'a RequestRef>,
    /// Name of the connection, for logs.
    pub connection: &'a str,
    /// The token's user.
    pub user: &'a str,
    /// The device, perhaps made up.
    pub device: &'a str,
    /// Name and version of the server.
    pub server: &'a str,
    /// Interval of the server's pings.
    pub heartbeat_ms: u64,
    /// When the token expires, in milliseconds since the epoch.
    pub expires_at: Option<u64>,
    /// What the client may use.
    pub limits: Limits,
}

/// The field `limits` of `welcome`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message of the WebSocket.
    pub message_bytes: u64,
    /// Largest body, in bytes of compact JSON.
    pub body_bytes: u64,
    /// Rooms that may be joined.
    pub rooms: u64,
    /// Sends that may await their answer.
    pub unacked_sends: u64,
    /// Sends per second; 0: no limit.
    pub sends_per_second: u64,
}

/// One user of a `presence` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member<'a> {
    /// Who.
    pub user: &'a str,
    /// On how many devices.
    pub devices: u64,
    /// Since when, in milliseconds since the epoch.
    pub since: u64,
}

/// Why a room was left without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LeftReason {
    /// An operator ended it.
    Kicked,
    /// The room was closed.
    RoomClosed,
    /// A new token doesn't grant it any more.
    Forbidden,
}

impl LeftReason {
    /// Its name in frames and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::RoomClosed => "room_closed",
            Self::Forbidden => "forbidden",
        }
    }
}
