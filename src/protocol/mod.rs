//! The client protocol: bytes in, frames out.
//!
//! Owns the words and limits of `docs/protocol.md`: which subprotocol a handshake gets
//! ([`negotiate`]), what a client's frame says or why it is refused ([`decode()`], [`Refusal`]), and how
//! every frame of the server looks in both encodings ([`ServerFrame`]), down to the header that
//! WebSocket puts before it ([`append`], [`frame`]). Pure: nothing here waits, knows a socket or
//! decides whether something is allowed.
//!
//! **Invariant:** a body that [`decode()`] lets through is compact JSON text, nested at most
//! [`DEPTH_MAX`] deep, which Redis, `jsonb` and every JSON reader take as it is.
//!
//! ```
//! use millstream::protocol::{ClientFrame, ErrorCode, ServerFrame, Subprotocol, decode, payload};
//!
//! let request = decode(Subprotocol::Json, br#"{"type":"leave","ref":7,"room":"lobby"}"#, 32 << 10).unwrap();
//! let ClientFrame::Leave { room } = request.frame else { panic!() };
//! let left = ServerFrame::Left { request_ref: request.request_ref.as_ref(), room: &room, reason: None };
//! assert_eq!(payload(Subprotocol::Json, &left)?, r#"{"type":"left","ref":7,"room":"lobby"}"#);
//!
//! let refusal = decode(Subprotocol::Json, br#"{"type":"leave","ref":8,"room":"no spaces"}"#, 32 << 10).unwrap_err();
//! assert_eq!(refusal.code, ErrorCode::BadRoom);
//! assert_eq!(refusal.request_ref.unwrap().to_string(), "8");
//! # Ok::<(), millstream::Error>(())
//! ```
//!
//! # Design
//! A frame is read in two steps. The first finds the values of the fields that the protocol knows
//! and looks at nothing inside them; the second reads, by `type`, those that belong to the frame.
//! So a field that is unknown to *this* type is ignored whatever it holds, and a refusal can repeat
//! `ref`, `room` and `cid` even if another field is wrong. A derived struct per type was the
//! alternative: it needs `type` to come first or a second pass over everything.

mod body;
mod client;
mod code;
mod decode;
#[cfg(test)]
mod documented;
mod encode;
#[cfg(test)]
mod examples;
mod framing;
mod key;
mod refusal;
mod server;
mod subprotocol;

pub use body::{BodyFault, DEPTH_MAX, check_body};
pub use client::{
    ClientFrame, FILE_NAME_BYTES_MAX, FILE_URL_BYTES_MAX, FileAsked, HISTORY_LIMIT_DEFAULT, HISTORY_LIMIT_MAX,
    HistoryRange, KIND_BYTES_MAX, KIND_DEFAULT, LAST_MAX, REF_BYTES_MAX, Request, RequestRef, SIGNAL_BYTES_MAX,
    SendFrame, SinceAsked,
};
pub use code::{ErrorCode, close};
pub use decode::{decode, decode_text};
pub use framing::{Opcode, WsHeader, append, close_frame, control_frame, frame, payload, ws_header};
pub use refusal::Refusal;
pub use server::{LeftReason, Limits, Member, ServerFrame, Welcome};
pub use subprotocol::{Offer, Subprotocol, UnknownSubprotocol, negotiate};
