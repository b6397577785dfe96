//! From bytes to a [`Request`], or to the reason why not.

mod fields;
mod frames;
mod json;
mod msgpack;
mod value;

use std::borrow::Cow;

use super::body::BodyFault;
use super::key::Key;
use super::{ErrorCode, Refusal, Request, RequestRef, Subprotocol};
use crate::model::{NAME_BYTES_MAX, ROOM_BYTES_MAX};
use fields::Fields;

/// Why a frame is refused, before anybody knows which frame it was.
struct Fault {
    code: ErrorCode,
    message: Cow<'static, str>,
}

impl Fault {
    fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into() }
    }

    fn bad_frame(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::BadFrame, message)
    }

    fn kind(key: Key, expected: &str) -> Self {
        Self::bad_frame(format!("`{}` must be {expected}", key.json()))
    }

    fn missing(key: Key) -> Self {
        Self::bad_frame(format!("`{}` is missing", key.json()))
    }

    fn too_long(key: Key, bytes_max: usize) -> Self {
        Self::bad_frame(format!("`{}` is over {bytes_max} bytes", key.json()))
    }
}

impl From<BodyFault> for Fault {
    fn from(fault: BodyFault) -> Self {
        Self::new(fault.code, fault.message)
    }
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        Self::new(fault.code, fault.message)
    }
}

/// Reads one frame of a client. A body may have `body_bytes` bytes as compact JSON.
///
/// Fields that the frame's type doesn't know are ignored, whatever they hold; a field of the frame
/// that comes twice is a bad frame; `null` in a field (but `body`) is the same as none.
///
/// # Errors
/// A [`Refusal`] with the code of the contract and whatever could be read of `ref`, `room` and `cid`.
pub fn decode(subprotocol: Subprotocol, payload: &[u8], body_bytes: usize) -> Result<Request<'_>, Refusal> {
    match subprotocol {
        Subprotocol::Json => match std::str::from_utf8(payload) {
            Ok(text) => decode_text(text, body_bytes),
            Err(_) => Err(Refusal::new(ErrorCode::BadFrame, "not UTF-8")),
        },
        Subprotocol::MsgPack => read(&msgpack::frame(payload)?, body_bytes),
    }
}

/// [`decode`] of JSON that is known to be UTF-8, as a text message of a WebSocket is.
///
/// # Errors
/// Those of [`decode`].
pub fn decode_text(payload: &str, body_bytes: usize) -> Result<Request<'_>, Refusal> {
    read(&json::frame(payload)?, body_bytes)
}

fn read<'a>(fields: &Fields<'a>, body_bytes: usize) -> Result<Request<'a>, Refusal> {
    let request_ref = fields.request_ref().map_err(|fault| refuse(fields, None, fault))?;
    match frames::read(fields, body_bytes) {
        Ok(frame) => Ok(Request { request_ref, frame }),
        Err(fault) => Err(refuse(fields, request_ref, fault)),
    }
}

/// Cold, so that it may look at the fields once more.
#[cold]
fn refuse(fields: &Fields<'_>, request_ref: Option<RequestRef>, fault: Fault) -> Refusal {
    let readable = |key: Key, bytes_max: usize| -> Option<Box<str>> {
        let text = fields.text(key).ok().flatten()?;
        (text.len() <= bytes_max).then(|| text.into())
    };
    let mut refusal = Refusal::from(fault).to(request_ref);
    refusal.room = readable(Key::Room, ROOM_BYTES_MAX);
    refusal.cid = readable(Key::Cid, NAME_BYTES_MAX);
    refusal
}

#[cfg(test)]
mod tests;
