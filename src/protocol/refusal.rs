//! Why a frame was refused: what becomes an `error` frame.

use std::borrow::Cow;
use std::fmt;

use super::{ErrorCode, RequestRef, ServerFrame};

/// A refused frame, with what could be read of it, so that the client knows which one it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The kind of refusal.
    pub code: ErrorCode,
    /// The frame's `ref`.
    pub request_ref: Option<RequestRef>,
    /// The frame's room, even one that is refused, up to the length that a room may have.
    pub room: Option<Box<str>>,
    /// The frame's cid, even one that is refused, up to the length that a cid may have.
    pub cid: Option<Box<str>>,
    /// For a person.
    pub message: Cow<'static, str>,
    /// When trying again makes sense, for codes that are retryable.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// A refusal that names no frame.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, request_ref: None, room: None, cid: None, message: message.into(), retry_after_ms: None }
    }

    /// The same, answering the request with this `ref`.
    #[must_use]
    pub fn to(mut self, request_ref: Option<RequestRef>) -> Self {
        self.request_ref = request_ref;
        self
    }

    /// The same, about a room.
    #[must_use]
    pub fn in_room(mut self, room: &str) -> Self {
        self.room = Some(room.into());
        self
    }

    /// The same, about a message.
    #[must_use]
    pub fn about(mut self, cid: &str) -> Self {
        self.cid = Some(cid.into());
        self
    }

    /// The same, with a time to wait.
    #[must_use]
    pub fn retry_after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The `error` frame.
    pub fn frame(&self) -> ServerFrame<'_> {
        ServerFrame::Error {
            request_ref: self.request_ref.as_ref(),
            room: self.room.as_deref(),
            cid: self.cid.as_deref(),
            code: self.code,
            message: &self.message,
            retry_after_ms: self.retry_after_ms,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl std::error::Error for Refusal {}
