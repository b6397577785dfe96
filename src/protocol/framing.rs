//! The header that WebSocket puts before a payload, so that a frame is encoded once, header and
//! all, and shared by every connection that gets it.
//!
//! Server frames are not masked and not fragmented.
//! Source: RFC 6455, section 5.2, "Base Framing Protocol".

use bytes::Bytes;

use super::{ServerFrame, Subprotocol, close};
use crate::error::Result;

/// What a WebSocket frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Opcode {
    /// A text message.
    Text = 1,
    /// A binary message.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// Yes.
    Pong = 10,
}

impl Subprotocol {
    /// What kind of message carries its frames.
    pub const fn opcode(self) -> Opcode {
        match self {
            Self::Json => Opcode::Text,
            Self::MsgPack => Opcode::Binary,
        }
    }
}

/// Longest header without a mask.
const HEADER_BYTES_MAX: usize = 10;
/// Header of a payload of 126 to 65,535 bytes: most of ours.
const HEADER_BYTES_USUAL: usize = 4;
/// Longest payload of a control frame.
const CONTROL_BYTES_MAX: usize = 125;

/// The header of one unmasked, unfragmented frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WsHeader {
    bytes: [u8; HEADER_BYTES_MAX],
    len: u8,
}

impl AsRef<[u8]> for WsHeader {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The header of a payload of `payload_len` bytes.
///
/// ```
/// use millstream::protocol::{Opcode, ws_header};
/// assert_eq!(ws_header(Opcode::Text, 5).as_ref(), [0x81, 5]);
/// assert_eq!(ws_header(Opcode::Binary, 256).as_ref(), [0x82, 126, 1, 0]);
/// ```
pub fn ws_header(opcode: Opcode, payload_len: usize) -> WsHeader {
    let mut bytes = [0; HEADER_BYTES_MAX];
    bytes[0] = 0x80 | opcode as u8;
    let len = match payload_len {
        0..=125 => {
            bytes[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            bytes[1] = 126;
            bytes[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            bytes[1] = 127;
            bytes[2..].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    };
    WsHeader { bytes, len }
}

/// Appends a frame, header and payload, to a connection's buffer.
///
/// # Errors
/// Those of [`ServerFrame::write`]; `out` is as it was.
pub fn append(subprotocol: Subprotocol, frame: &ServerFrame<'_>, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES_USUAL]);
    if let Err(error) = frame.write(subprotocol, out) {
        out.truncate(start);
        return Err(error);
    }
    let header = ws_header(subprotocol.opcode(), out.len() - start - HEADER_BYTES_USUAL);
    let header = header.as_ref();
    if header.len() == HEADER_BYTES_USUAL {
        out[start..start + HEADER_BYTES_USUAL].copy_from_slice(header);
    } else {
        out.splice(start..start + HEADER_BYTES_USUAL, header.iter().copied());
    }
    Ok(())
}

/// A frame, header and payload, to be shared.
///
/// # Errors
/// Those of [`ServerFrame::write`].
pub fn frame(subprotocol: Subprotocol, frame: &ServerFrame<'_>) -> Result<Bytes> {
    let mut out = Vec::with_capacity(frame.bytes_about());
    append(subprotocol, frame, &mut out)?;
    Ok(out.into())
}

/// A frame's payload alone: for who lets a library do the framing, or has no WebSocket at all.
///
/// # Errors
/// Those of [`ServerFrame::write`].
pub fn payload(subprotocol: Subprotocol, frame: &ServerFrame<'_>) -> Result<Bytes> {
    let mut out = Vec::with_capacity(256);
    frame.write(subprotocol, &mut out)?;
    Ok(out.into())
}

/// A ping or pong. A payload over 125 bytes, which no control frame may have, is cut.
pub fn control_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    let payload = &payload[..payload.len().min(CONTROL_BYTES_MAX)];
    let mut out = Vec::with_capacity(2 + payload.len());
    out.extend_from_slice(ws_header(opcode, payload.len()).as_ref());
    out.extend_from_slice(payload);
    out.into()
}

/// A close with a code of [`close`] and a reason, which is cut to 123 bytes: a longer one is
/// refused by the peer.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let reason = &reason[..reason.floor_char_boundary(close::REASON_BYTES_MAX)];
    let mut payload = Vec::with_capacity(CONTROL_BYTES_MAX);
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    control_frame(Opcode::Close, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{ErrorCode, Refusal};

    #[test]
    fn the_header_is_the_one_of_the_rfc_at_every_boundary() {
        for (len, expected) in [
            (0, &[0x82, 0][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            assert_eq!(ws_header(Opcode::Binary, len).as_ref(), expected, "{len}");
        }
    }

    #[test]
    fn a_frame_is_its_header_and_its_payload_whatever_its_length() {
        for len in [1, 60, 100, 200, 60_000, 70_000] {
            let refusal = Refusal::new(ErrorCode::Internal, "x".repeat(len));
            for subprotocol in Subprotocol::ALL {
                let payload = payload(subprotocol, &refusal.frame()).unwrap();
                let mut expected = ws_header(subprotocol.opcode(), payload.len()).as_ref().to_vec();
                expected.extend_from_slice(&payload);
                assert_eq!(frame(subprotocol, &refusal.frame()).unwrap(), expected);

                let mut appended = b"before".to_vec();
                append(subprotocol, &refusal.frame(), &mut appended).unwrap();
                assert_eq!(appended.strip_prefix(b"before").unwrap(), expected);
            }
        }
    }

    #[test]
    fn a_reason_is_cut_between_characters() {
        let frame = close_frame(close::REPLACED, &"é".repeat(100));
        assert_eq!(frame[..4], [0x88, 124, 0x11, 0x98]);
        assert_eq!(std::str::from_utf8(&frame[4..]).unwrap(), "é".repeat(61));
    }
}
