//! A value of either encoding, still as it stands in the payload.

use std::borrow::Cow;

use super::fields::Fields;
use super::{json, msgpack};
use crate::protocol::body::{BodyFault, compact};

/// The bytes of one value, whose syntax and depth are checked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// JSON text without white space around it.
    Json(&'a str),
    /// One MessagePack value.
    MsgPack(&'a [u8]),
}

/// What a value is as an integer.
pub(super) enum Integer {
    /// This one.
    Is(i128),
    /// A number, but with a point or an exponent, or beyond every limit.
    Other,
    /// Something else.
    NoNumber,
}

impl<'a> Value<'a> {
    pub(super) fn is_null(self) -> bool {
        match self {
            Self::Json(text) => text == "null",
            Self::MsgPack(bytes) => bytes == [0xc0],
        }
    }

    /// Borrowed unless it is escaped.
    pub(super) fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Json(json) => {
                let inner = json.strip_prefix('"')?.strip_suffix('"')?;
                if inner.contains('\\') {
                    // Fails on half a surrogate pair.
                    serde_json::from_str::<String>(json).ok().map(Cow::Owned)
                } else {
                    Some(Cow::Borrowed(inner))
                }
            }
            Self::MsgPack(bytes) => msgpack::text(bytes).map(Cow::Borrowed),
        }
    }

    pub(super) fn integer(self) -> Integer {
        match self {
            Self::Json(json) if json.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
                json.parse().map_or(Integer::Other, Integer::Is)
            }
            Self::Json(_) => Integer::NoNumber,
            Self::MsgPack(bytes) => msgpack::integer(bytes),
        }
    }

    /// Its fields, if it is a map.
    pub(super) fn fields(self) -> Option<Fields<'a>> {
        match self {
            Self::Json(text) => json::fields(text).ok(),
            Self::MsgPack(bytes) => msgpack::fields(bytes),
        }
    }

    /// As compact JSON text that can be stored.
    pub(super) fn body(self) -> Result<Cow<'a, str>, BodyFault> {
        match self {
            Self::Json(text) => compact(text),
            Self::MsgPack(bytes) => msgpack::to_json(bytes).map(Cow::Owned),
        }
    }
}
