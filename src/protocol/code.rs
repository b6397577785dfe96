//! The codes of `error` frames and of closes.

/// The field `code` of an `error` frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// Not JSON or MessagePack, not an object, a field of the wrong kind or over its length, nesting over 32.
    BadFrame,
    /// A `type` that this server doesn't know.
    UnknownType,
    /// Token missing, malformed, expired, wrong signature or audience; the connection closes.
    Unauthorized,
    /// The token does not grant this in this room.
    Forbidden,
    /// A room's name outside its limits.
    BadRoom,
    /// A cid outside its limits.
    BadCid,
    /// A body that can't be stored: U+0000, half a surrogate pair, a number out of range.
    BadBody,
    /// A seq that is no message's number.
    BadSeq,
    /// A body or signal over its limit.
    TooLarge,
    /// `ack` or `read` in a room that is not joined.
    NotJoined,
    /// The connection has joined as many rooms as it may.
    TooManyRooms,
    /// As many sends await their answer as may.
    TooManyUnacked,
    /// The cid was used for another message.
    CidConflict,
    /// The room takes no more messages.
    RoomClosed,
    /// Too much in too little time.
    RateLimited,
    /// The log can't be written now.
    Unavailable,
    /// A defect of ours.
    Internal,
}

impl ErrorCode {
    /// Every code, in the order of the contract's table: for tables of metrics.
    pub const ALL: [Self; 17] = [
        Self::BadFrame,
        Self::UnknownType,
        Self::Unauthorized,
        Self::Forbidden,
        Self::BadRoom,
        Self::BadCid,
        Self::BadBody,
        Self::BadSeq,
        Self::TooLarge,
        Self::NotJoined,
        Self::TooManyRooms,
        Self::TooManyUnacked,
        Self::CidConflict,
        Self::RoomClosed,
        Self::RateLimited,
        Self::Unavailable,
        Self::Internal,
    ];

    /// Its name in frames and labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadFrame => "bad_frame",
            Self::UnknownType => "unknown_type",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::BadRoom => "bad_room",
            Self::BadCid => "bad_cid",
            Self::BadBody => "bad_body",
            Self::BadSeq => "bad_seq",
            Self::TooLarge => "too_large",
            Self::NotJoined => "not_joined",
            Self::TooManyRooms => "too_many_rooms",
            Self::TooManyUnacked => "too_many_unacked",
            Self::CidConflict => "cid_conflict",
            Self::RoomClosed => "room_closed",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Internal => "internal",
        }
    }

    /// Whether the same frame may succeed later without anybody changing it.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::TooManyRooms | Self::TooManyUnacked | Self::RateLimited | Self::Unavailable | Self::Internal
        )
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Close codes of the WebSocket. The 1xxx are those of RFC 6455, section 7.4.1, and its registry.
pub mod close {
    /// Normal end; reconnect as the client likes.
    pub const NORMAL: u16 = 1000;
    /// The peer goes away; reconnect as the client likes.
    pub const GOING_AWAY: u16 = 1001;
    /// A binary frame on a JSON connection or the other way round; don't reconnect.
    pub const WRONG_FRAME_KIND: u16 = 1003;
    /// Text that is not UTF-8; don't reconnect.
    pub const BAD_UTF8: u16 = 1007;
    /// A message over `message_bytes`; don't reconnect.
    pub const TOO_BIG: u16 = 1009;
    /// The server restarts; reconnect after `bye.reconnect_after_ms` plus jitter.
    pub const RESTART: u16 = 1012;
    /// No `hello` in time; reconnect.
    pub const NO_HELLO: u16 = 4001;
    /// Nothing from the client for two heartbeats; reconnect.
    pub const NO_HEARTBEAT: u16 = 4002;
    /// The client read nothing for `edge.stall_timeout`; reconnect.
    pub const STALLED: u16 = 4008;
    /// More than [`RATE_LIMITED_MAX`] frames refused as `rate_limited`; reconnect after 30 s.
    pub const TOO_MANY_RATE_LIMITED: u16 = 4290;
    /// Bad token; don't reconnect with it.
    pub const BAD_TOKEN: u16 = 4500;
    /// More than [`BAD_FRAMES_MAX`] bad frames; don't reconnect.
    pub const PROTOCOL_ERRORS: u16 = 4501;
    /// A newer connection of the device took its place; don't reconnect.
    pub const REPLACED: u16 = 4504;
    /// An operator closed it; don't reconnect.
    pub const DISCONNECTED: u16 = 4505;

    /// `bad_frame` errors that a connection survives.
    pub const BAD_FRAMES_MAX: u32 = 10;
    /// `rate_limited` errors within 10 s that a connection survives.
    pub const RATE_LIMITED_MAX: u32 = 1_000;
    /// Longest reason of a close frame: a control frame holds 125 bytes, two are the code.
    pub const REASON_BYTES_MAX: usize = 123;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(
            names.join(" "),
            "bad_frame unknown_type unauthorized forbidden bad_room bad_cid bad_body bad_seq too_large not_joined \
             too_many_rooms too_many_unacked cid_conflict room_closed rate_limited unavailable internal"
        );
        let retryable: Vec<_> = ErrorCode::ALL.iter().filter(|code| code.retryable()).map(|c| c.as_str()).collect();
        assert_eq!(retryable, ["too_many_rooms", "too_many_unacked", "rate_limited", "unavailable", "internal"]);
    }
}
