//! Reads MessagePack where it stands. Nothing is allocated from a length that a client announces.

use rmp::Marker;

use super::Fault;
use super::fields::Fields;
use super::value::{Integer, Value};
use crate::protocol::body::BodyFault;
use crate::protocol::key::Key;
use crate::protocol::{DEPTH_MAX, Subprotocol};

/// Bytes that are no MessagePack, end too early or are nested too deep.
struct Malformed(&'static str);

const CUT: Malformed = Malformed("not MessagePack: it ends too early");
const TOO_DEEP: Malformed = Malformed("nested deeper than 32");

impl From<Malformed> for Fault {
    fn from(malformed: Malformed) -> Self {
        Self::bad_frame(malformed.0)
    }
}

/// One value, or the beginning of one that holds others.
enum Token<'a> {
    Nil,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(&'a [u8]),
    /// Binary or extension: JSON has neither.
    Opaque,
    Array(usize),
    Map(usize),
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CUT)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(CUT)?;
        self.rest = rest;
        Ok(*taken)
    }

    fn len8(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(u8::from_be_bytes(self.array()?)))
    }

    fn len16(&mut self) -> Result<usize, Malformed> {
        Ok(usize::from(u16::from_be_bytes(self.array()?)))
    }

    fn len32(&mut self) -> Result<usize, Malformed> {
        // Where a length doesn't fit, neither does the payload.
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| CUT)
    }

    fn text(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        self.take(len).map(Token::Text)
    }

    fn opaque(&mut self, len: usize) -> Result<Token<'a>, Malformed> {
        self.take(len).map(|_| Token::Opaque)
    }

    /// The next token. Source: the MessagePack specification, "Formats".
    fn token(&mut self) -> Result<Token<'a>, Malformed> {
        let [marker] = self.array()?;
        Ok(match Marker::from_u8(marker) {
            Marker::Null => Token::Nil,
            Marker::False => Token::Bool(false),
            Marker::True => Token::Bool(true),
            Marker::FixPos(number) => Token::Int(number.into()),
            Marker::FixNeg(number) => Token::Int(number.into()),
            Marker::U8 => Token::Int(u8::from_be_bytes(self.array()?).into()),
            Marker::U16 => Token::Int(u16::from_be_bytes(self.array()?).into()),
            Marker::U32 => Token::Int(u32::from_be_bytes(self.array()?).into()),
            Marker::U64 => Token::Int(u64::from_be_bytes(self.array()?).into()),
            Marker::I8 => Token::Int(i8::from_be_bytes(self.array()?).into()),
            Marker::I16 => Token::Int(i16::from_be_bytes(self.array()?).into()),
            Marker::I32 => Token::Int(i32::from_be_bytes(self.array()?).into()),
            Marker::I64 => Token::Int(i64::from_be_bytes(self.array()?).into()),
            Marker::F32 => Token::Float(f32::from_be_bytes(self.array()?).into()),
            Marker::F64 => Token::Float(f64::from_be_bytes(self.array()?)),
            Marker::FixStr(len) => self.text(len.into())?,
            Marker::Str8 => self.len8().and_then(|len| self.text(len))?,
            Marker::Str16 => self.len16().and_then(|len| self.text(len))?,
            Marker::Str32 => self.len32().and_then(|len| self.text(len))?,
            Marker::FixArray(len) => Token::Array(len.into()),
            Marker::Array16 => Token::Array(self.len16()?),
            Marker::Array32 => Token::Array(self.len32()?),
            Marker::FixMap(len) => Token::Map(len.into()),
            Marker::Map16 => Token::Map(self.len16()?),
            Marker::Map32 => Token::Map(self.len32()?),
            Marker::Bin8 => self.len8().and_then(|len| self.opaque(len))?,
            Marker::Bin16 => self.len16().and_then(|len| self.opaque(len))?,
            Marker::Bin32 => self.len32().and_then(|len| self.opaque(len))?,
            // An extension has one more byte than its data: its type.
            Marker::FixExt1 => self.opaque(2)?,
            Marker::FixExt2 => self.opaque(3)?,
            Marker::FixExt4 => self.opaque(5)?,
            Marker::FixExt8 => self.opaque(9)?,
            Marker::FixExt16 => self.opaque(17)?,
            Marker::Ext8 => self.len8().and_then(|len| self.opaque(len + 1))?,
            Marker::Ext16 => self.len16().and_then(|len| self.opaque(len + 1))?,
            Marker::Ext32 => self.len32().and_then(|len| self.opaque(len.saturating_add(1)))?,
            Marker::Reserved => return Err(Malformed("not MessagePack: a reserved byte")),
        })
    }

    /// Walks over one value that may be nested `depth` deep.
    fn skip(&mut self, depth: usize) -> Result<(), Malformed> {
        let (items, per_item) = match self.token()? {
            Token::Array(len) => (len, 1),
            Token::Map(len) => (len, 2),
            _ => return Ok(()),
        };
        let depth = depth.checked_sub(1).ok_or(TOO_DEEP)?;
        for _ in 0..items {
            for _ in 0..per_item {
                self.skip(depth)?;
            }
        }
        Ok(())
    }

    /// The bytes of one value.
    fn value(&mut self) -> Result<&'a [u8], Malformed> {
        let before = self.rest;
        self.skip(DEPTH_MAX)?;
        Ok(&before[..before.len() - self.rest.len()])
    }
}

/// The fields of a whole frame.
pub(super) fn frame(payload: &[u8]) -> Result<Fields<'_>, Fault> {
    let mut reader = Reader { rest: payload };
    let Token::Map(len) = reader.token()? else { return Err(Fault::bad_frame("not a map")) };
    let fields = read_fields(&mut reader, len)?;
    if reader.rest.is_empty() { Ok(fields) } else { Err(Fault::bad_frame("bytes after the frame")) }
}

/// The fields of a map inside a frame, whose syntax is known to be right.
pub(super) fn fields(bytes: &[u8]) -> Option<Fields<'_>> {
    let mut reader = Reader { rest: bytes };
    let Ok(Token::Map(len)) = reader.token() else { return None };
    read_fields(&mut reader, len).ok()
}

fn read_fields<'a>(reader: &mut Reader<'a>, len: usize) -> Result<Fields<'a>, Malformed> {
    let mut fields = Fields::new();
    for _ in 0..len {
        // A key that is no text is unknown, like any other name that we don't know.
        let key = text(reader.value()?).and_then(|name| Key::of_client(Subprotocol::MsgPack, name));
        let value = Value::MsgPack(reader.value()?);
        if let Some(key) = key {
            fields.put(key, value);
        }
    }
    Ok(fields)
}

pub(super) fn text(bytes: &[u8]) -> Option<&str> {
    match (Reader { rest: bytes }).token() {
        Ok(Token::Text(text)) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

pub(super) fn integer(bytes: &[u8]) -> Integer {
    match (Reader { rest: bytes }).token() {
        Ok(Token::Int(number)) => Integer::Is(number),
        Ok(Token::Float(_)) => Integer::Other,
        _ => Integer::NoNumber,
    }
}

/// A body as compact JSON text. Its syntax and depth are known to be right.
pub(super) fn to_json(bytes: &[u8]) -> Result<String, BodyFault> {
    let mut json = Vec::with_capacity(bytes.len() + bytes.len() / 4 + 16);
    write_json(&mut Reader { rest: bytes }, &mut json)?;
    String::from_utf8(json).map_err(|_| NOT_UTF8)
}

const NOT_UTF8: BodyFault = BodyFault::bad("the body holds text that is not UTF-8");

fn write_json(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Result<(), BodyFault> {
    match next(reader)? {
        Token::Nil => out.extend_from_slice(b"null"),
        Token::Bool(true) => out.extend_from_slice(b"true"),
        Token::Bool(false) => out.extend_from_slice(b"false"),
        Token::Int(number) => write_number(&number, out)?,
        Token::Float(number) if number.is_finite() => write_number(&number, out)?,
        Token::Float(_) => return Err(BodyFault::NUMBER),
        Token::Text(text) => write_text(text, out)?,
        Token::Opaque => return Err(BodyFault::bad("the body holds bytes or an extension, which JSON has not")),
        Token::Array(len) => {
            out.push(b'[');
            for item in 0..len {
                separate(item, out);
                write_json(reader, out)?;
            }
            out.push(b']');
        }
        Token::Map(len) => {
            out.push(b'{');
            for item in 0..len {
                separate(item, out);
                let Token::Text(key) = next(reader)? else {
                    return Err(BodyFault::bad("the body holds a key that is no string"));
                };
                write_text(key, out)?;
                out.push(b':');
                write_json(reader, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn next<'a>(reader: &mut Reader<'a>) -> Result<Token<'a>, BodyFault> {
    reader.token().map_err(|malformed| BodyFault::frame(malformed.0))
}

fn separate(item: usize, out: &mut Vec<u8>) {
    if item > 0 {
        out.push(b',');
    }
}

fn write_number(number: &impl serde::Serialize, out: &mut Vec<u8>) -> Result<(), BodyFault> {
    serde_json::to_writer(out, number).map_err(|_| BodyFault::NUMBER)
}

fn write_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), BodyFault> {
    let text = std::str::from_utf8(text).map_err(|_| NOT_UTF8)?;
    if text.contains('\0') {
        return Err(BodyFault::NUL);
    }
    serde_json::to_writer(out, text).map_err(|_| NOT_UTF8)
}
