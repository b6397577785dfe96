//! A body's JSON text as MessagePack, without a tree in between.
//!
//! # Design
//! Own code, because the count of a container has to stand before its items: through serde each
//! container of unknown length is buffered, and serde_json's floats may be off by the last bit. Here
//! the header's byte is left free and filled in at the end. The text was checked when it came in,
//! so this reads just enough of JSON to never panic on a damaged one.

use std::borrow::Cow;

use rmp::encode as msgpack;

use crate::error::{Error, Kind, Result};
use crate::protocol::body::number_len;

/// Nesting that a stored body can't have, so that a damaged one can't overflow the stack.
const STORED_DEPTH_MAX: usize = 128;

const INTO_MEMORY: &str = "writing into memory does not fail";

/// Appends the JSON text as MessagePack.
///
/// # Errors
/// [`Kind::Corrupt`] if it is no JSON.
pub(super) fn json_to_msgpack(json: &str, out: &mut Vec<u8>) -> Result<()> {
    let mut text = Text { json, at: 0 };
    text.value(out, STORED_DEPTH_MAX)?;
    text.white_space();
    if text.at == json.len() { Ok(()) } else { Err(text.corrupt()) }
}

/// Fills in the header of the container that begins at `start`, where a byte `0x80` (map) or
/// `0x90` (array) stands. Few containers have more than 15 items, and then their bytes move once.
pub(super) fn close_container(out: &mut Vec<u8>, start: usize, count: usize) {
    let map = out[start] == 0x80;
    if let Ok(count @ 0..=15) = u8::try_from(count) {
        out[start] |= count;
    } else if let Ok(count) = u16::try_from(count) {
        out[start] = if map { 0xde } else { 0xdc };
        out.splice(start + 1..start + 1, count.to_be_bytes());
    } else {
        let count = u32::try_from(count).expect("a body has fewer than 2³² items");
        out[start] = if map { 0xdf } else { 0xdd };
        out.splice(start + 1..start + 1, count.to_be_bytes());
    }
}

struct Text<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Text<'a> {
    fn corrupt(&self) -> Error {
        Error::new(Kind::Corrupt, format!("read a stored body: no JSON at byte {}", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.json.as_bytes().get(self.at).copied()
    }

    fn white_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The next byte that is not white space, if it is this one.
    fn eat(&mut self, byte: u8) -> bool {
        self.white_space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn literal(&mut self, literal: &str) -> Result<()> {
        if !self.json.as_bytes()[self.at..].starts_with(literal.as_bytes()) {
            return Err(self.corrupt());
        }
        self.at += literal.len();
        Ok(())
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: usize) -> Result<()> {
        self.white_space();
        match self.peek() {
            Some(b'"') => msgpack::write_str(out, &self.string()?).expect(INTO_MEMORY),
            Some(b'{') => self.container(out, depth, 0x80, b'}')?,
            Some(b'[') => self.container(out, depth, 0x90, b']')?,
            Some(b't') => {
                self.literal("true")?;
                msgpack::write_bool(out, true).expect(INTO_MEMORY);
            }
            Some(b'f') => {
                self.literal("false")?;
                msgpack::write_bool(out, false).expect(INTO_MEMORY);
            }
            Some(b'n') => {
                self.literal("null")?;
                msgpack::write_nil(out).expect(INTO_MEMORY);
            }
            _ => self.number(out)?,
        }
        Ok(())
    }

    fn container(&mut self, out: &mut Vec<u8>, depth: usize, header: u8, end: u8) -> Result<()> {
        let depth = depth.checked_sub(1).ok_or_else(|| self.corrupt())?;
        let start = out.len();
        out.push(header);
        self.at += 1;
        let mut count = 0;
        if !self.eat(end) {
            loop {
                if end == b'}' {
                    self.white_space();
                    msgpack::write_str(out, &self.string()?).expect(INTO_MEMORY);
                    if !self.eat(b':') {
                        return Err(self.corrupt());
                    }
                }
                self.value(out, depth)?;
                count += 1;
                if self.eat(end) {
                    break;
                }
                if !self.eat(b',') {
                    return Err(self.corrupt());
                }
            }
        }
        close_container(out, start, count);
        Ok(())
    }

    /// The string that begins here; borrowed unless it is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>> {
        let corrupt = self.corrupt();
        let bytes = self.json.as_bytes();
        if self.peek() != Some(b'"') {
            return Err(corrupt);
        }
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += 1;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                }
                Some(_) => (),
                None => return Err(corrupt),
            }
        }
        self.at += 1;
        debug_assert!(self.at <= bytes.len(), "the loop ends at a quote");
        if escaped {
            let text = serde_json::from_str::<String>(&self.json[start..self.at]);
            return text.map(Cow::Owned).map_err(|e| corrupt.caused_by(e));
        }
        Ok(Cow::Borrowed(&self.json[start + 1..self.at - 1]))
    }

    /// An integer where 64 bits are enough, else a float: what JSON readers make of it.
    fn number(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let text = &self.json[self.at..self.at + number_len(&self.json.as_bytes()[self.at..])];
        if let Ok(number) = text.parse::<u64>() {
            _ = msgpack::write_uint(out, number).expect(INTO_MEMORY);
        } else if let Ok(number @ ..0) = text.parse::<i64>() {
            _ = msgpack::write_sint(out, number).expect(INTO_MEMORY);
        } else {
            let number: f64 = text.parse().map_err(|e| self.corrupt().caused_by(e))?;
            msgpack::write_f64(out, number).expect(INTO_MEMORY);
        }
        self.at += text.len();
        Ok(())
    }
}
