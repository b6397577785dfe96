//! What a client can say.

use std::borrow::Cow;
use std::fmt;

use crate::model::Cursor;

/// Longest `ref` that is text, in bytes.
pub const REF_BYTES_MAX: usize = 64;
/// Longest `kind`, in bytes.
pub const KIND_BYTES_MAX: usize = 32;
/// The `kind` of a message that names none.
pub const KIND_DEFAULT: &str = "text";
/// Longest `file.url`, in bytes.
pub const FILE_URL_BYTES_MAX: usize = 2 << 10;
/// Longest `file.name`, in bytes: what file systems take.
pub const FILE_NAME_BYTES_MAX: usize = 255;
/// Largest body of a signal, in bytes of compact JSON.
pub const SIGNAL_BYTES_MAX: usize = 1 << 10;
/// Largest n of `since: {"last": n}`.
pub const LAST_MAX: u32 = 1_000;
/// Messages of a `history` that names no limit.
pub const HISTORY_LIMIT_DEFAULT: u32 = 50;
/// Messages of a `history` at most; a higher `limit` is cut to it.
pub const HISTORY_LIMIT_MAX: u32 = 200;
/// How much of `hello.client` is kept for logs, in bytes.
pub(super) const CLIENT_BYTES_MAX: usize = 128;

/// One frame of a client, with the `ref` that its answer repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Repeated in the answer, and in an `error`.
    pub request_ref: Option<RequestRef>,
    /// What is asked.
    pub frame: ClientFrame<'a>,
}

/// The field `ref` of a request: an integer of 64 bits, or text. Owned, since it waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RequestRef {
    /// An integer from 0.
    Unsigned(u64),
    /// An integer below 0.
    Negative(i64),
    /// Text of at most [`REF_BYTES_MAX`] bytes.
    Text(Box<str>),
}

impl fmt::Display for RequestRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsigned(number) => write!(f, "{number}"),
            Self::Negative(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// What a client asks; text is borrowed from the payload unless it was escaped there.
///
/// Every `room` is a valid [`Room`](crate::model::Room), every `cid` a valid
/// [`Cid`](crate::model::Cid), every `device` a valid [`DeviceId`](crate::model::DeviceId).
#[derive(Clone, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// The first frame of a connection.
    Hello {
        /// The token, if it didn't come with the handshake.
        token: Option<Cow<'a, str>>,
        /// The device; the server makes one up if absent.
        device: Option<Cow<'a, str>>,
        /// Name and version of the client, for logs; cut to 128 bytes.
        client: Option<Cow<'a, str>>,
    },
    /// Follow a room.
    Join {
        /// The room.
        room: Cow<'a, str>,
        /// Where delivery begins.
        since: SinceAsked,
    },
    /// Follow a room no more.
    Leave {
        /// The room.
        room: Cow<'a, str>,
    },
    /// Put a message into a room.
    Send(SendFrame<'a>),
    /// Everything up to `seq` has been taken over.
    Ack {
        /// The room.
        room: Cow<'a, str>,
        /// The last message taken over.
        seq: u64,
    },
    /// Everything up to `seq` has been read.
    Read {
        /// The room.
        room: Cow<'a, str>,
        /// The last message read.
        seq: u64,
    },
    /// Something ephemeral for who is there.
    Signal {
        /// The room.
        room: Cow<'a, str>,
        /// Compact JSON text, at most [`SIGNAL_BYTES_MAX`] bytes.
        body: Cow<'a, str>,
    },
    /// Messages of the past.
    History {
        /// The room.
        room: Cow<'a, str>,
        /// Which.
        range: HistoryRange,
        /// Messages at most: 1 to [`HISTORY_LIMIT_MAX`].
        limit: u32,
    },
    /// Who is there?
    Presence {
        /// The room.
        room: Cow<'a, str>,
    },
    /// A new token for this connection.
    Refresh {
        /// The token.
        token: Cow<'a, str>,
    },
    /// Are you there?
    Ping,
}

impl ClientFrame<'_> {
    /// Its `type`: for labels, from a closed set.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Join { .. } => "join",
            Self::Leave { .. } => "leave",
            Self::Send(_) => "send",
            Self::Ack { .. } => "ack",
            Self::Read { .. } => "read",
            Self::Signal { .. } => "signal",
            Self::History { .. } => "history",
            Self::Presence { .. } => "presence",
            Self::Refresh { .. } => "refresh",
            Self::Ping => "ping",
        }
    }
}

impl fmt::Debug for ClientFrame<'_> {
    // Tokens and bodies are never printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hello { device, client, .. } => write!(f, "hello of {device:?} with {client:?}"),
            Self::Join { room, since } => write!(f, "join of {room} since {since:?}"),
            Self::Send(send) => write!(f, "send of {:?} to {}, {} bytes", send.cid, send.room, send.body.len()),
            Self::Ack { room, seq } | Self::Read { room, seq } => {
                write!(f, "{} of {room} up to {seq}", self.type_name())
            }
            Self::Signal { room, body } => write!(f, "signal to {room}, {} bytes", body.len()),
            Self::History { room, range, limit } => write!(f, "history of {room}, {limit} {range:?}"),
            Self::Leave { room } | Self::Presence { room } => write!(f, "{} of {room}", self.type_name()),
            Self::Refresh { .. } | Self::Ping => f.write_str(self.type_name()),
        }
    }
}

/// A `send`.
#[derive(Clone, PartialEq, Eq)]
pub struct SendFrame<'a> {
    /// The room.
    pub room: Cow<'a, str>,
    /// The device's own id for the message.
    pub cid: Cow<'a, str>,
    /// What sort of body it has.
    pub kind: Cow<'a, str>,
    /// Compact JSON text.
    pub body: Cow<'a, str>,
    /// The file it refers to.
    pub file: Option<FileAsked<'a>>,
}

/// The field `file` of a `send`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAsked<'a> {
    /// Where it is.
    pub url: Cow<'a, str>,
    /// What it is called.
    pub name: Cow<'a, str>,
}

/// The field `since` of a `join`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SinceAsked {
    /// After this device's saved cursor.
    #[default]
    Saved,
    /// At the oldest message that is held anywhere.
    Start,
    /// Only what comes after the join.
    Now,
    /// At the n-th newest message, 1 to [`LAST_MAX`].
    Last(u32),
    /// After this cursor.
    Cursor(Cursor),
}

/// Which messages a `history` asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HistoryRange {
    /// The newest.
    #[default]
    Newest,
    /// The newest with a lower seq.
    Before(u64),
    /// The oldest with a higher seq.
    After(u64),
}
