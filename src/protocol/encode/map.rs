//! Writes one map in either encoding, field by field.

use rmp::encode as msgpack;

use super::transcode::{close_container, json_to_msgpack};
use crate::error::Result;
use crate::model::{Cursor, EntryId};
use crate::protocol::Subprotocol;
use crate::protocol::key::Key;

/// Why writing into a buffer is no place for errors.
const INTO_MEMORY: &str = "writing into memory does not fail";

/// A map that is being written. [`Map::close`] ends it.
pub(super) struct Map<'o> {
    subprotocol: Subprotocol,
    out: &'o mut Vec<u8>,
    /// Where it begins in `out`.
    start: usize,
    count: usize,
}

impl<'o> Map<'o> {
    pub(super) fn open(subprotocol: Subprotocol, out: &'o mut Vec<u8>) -> Self {
        let start = out.len();
        out.push(match subprotocol {
            Subprotocol::Json => b'{',
            // The header's place; how many fields there are is known at the end.
            Subprotocol::MsgPack => 0x80,
        });
        Self { subprotocol, out, start, count: 0 }
    }

    pub(super) fn close(self) {
        match self.subprotocol {
            Subprotocol::Json => self.out.push(b'}'),
            Subprotocol::MsgPack => close_container(self.out, self.start, self.count),
        }
    }

    fn key(&mut self, key: Key) {
        let name = key.name(self.subprotocol);
        match self.subprotocol {
            Subprotocol::Json => {
                self.out.extend_from_slice(if self.count == 0 { b"\"" } else { b",\"" });
                // No name needs an escape.
                self.out.extend_from_slice(name.as_bytes());
                self.out.extend_from_slice(b"\":");
            }
            Subprotocol::MsgPack => write_text(self.subprotocol, self.out, name),
        }
        self.count += 1;
    }

    pub(super) fn text(&mut self, key: Key, text: &str) {
        self.key(key);
        write_text(self.subprotocol, self.out, text);
    }

    pub(super) fn text_if(&mut self, key: Key, text: Option<&str>) {
        if let Some(text) = text {
            self.text(key, text);
        }
    }

    pub(super) fn uint(&mut self, key: Key, number: u64) {
        self.key(key);
        match self.subprotocol {
            Subprotocol::Json => write_digits(self.out, number),
            Subprotocol::MsgPack => _ = msgpack::write_uint(self.out, number).expect(INTO_MEMORY),
        }
    }

    pub(super) fn uint_if(&mut self, key: Key, number: Option<u64>) {
        if let Some(number) = number {
            self.uint(key, number);
        }
    }

    pub(super) fn sint(&mut self, key: Key, number: i64) {
        self.key(key);
        match self.subprotocol {
            Subprotocol::Json => serde_json::to_writer(&mut *self.out, &number).expect(INTO_MEMORY),
            Subprotocol::MsgPack => _ = msgpack::write_sint(self.out, number).expect(INTO_MEMORY),
        }
    }

    pub(super) fn flag(&mut self, key: Key, flag: bool) {
        self.key(key);
        match self.subprotocol {
            Subprotocol::Json => self.out.extend_from_slice(if flag { b"true" } else { b"false" }),
            Subprotocol::MsgPack => msgpack::write_bool(self.out, flag).expect(INTO_MEMORY),
        }
    }

    /// An id is text in both encodings.
    pub(super) fn id(&mut self, key: Key, id: EntryId) {
        self.key(key);
        let start = self.out.len();
        self.out.push(b'"');
        write_digits(self.out, id.ms);
        self.out.push(b'-');
        write_digits(self.out, id.n);
        match self.subprotocol {
            Subprotocol::Json => self.out.push(b'"'),
            Subprotocol::MsgPack => text_header(self.out, start),
        }
    }

    /// `at`, which MessagePack leaves out: it is the `ms` of the id.
    pub(super) fn at(&mut self, id: EntryId) {
        if self.subprotocol == Subprotocol::Json {
            self.uint(Key::At, id.ms);
        }
    }

    pub(super) fn cursor(&mut self, key: Key, cursor: Cursor) {
        let mut map = self.map(key);
        map.id(Key::Id, cursor.id);
        map.uint(Key::Seq, cursor.seq);
        map.close();
    }

    /// Compact JSON text: spliced, or transcoded.
    pub(super) fn json(&mut self, key: Key, json: &str) -> Result<()> {
        self.key(key);
        match self.subprotocol {
            Subprotocol::Json => {
                self.out.extend_from_slice(json.as_bytes());
                Ok(())
            }
            Subprotocol::MsgPack => json_to_msgpack(json, self.out),
        }
    }

    /// A map inside.
    pub(super) fn map(&mut self, key: Key) -> Map<'_> {
        self.key(key);
        Map::open(self.subprotocol, self.out)
    }

    /// Begins an array of `len` maps, each of them an [`Map::item`]; [`Map::array_end`] ends it.
    pub(super) fn array(&mut self, key: Key, len: usize) {
        self.key(key);
        match self.subprotocol {
            Subprotocol::Json => self.out.push(b'['),
            Subprotocol::MsgPack => {
                let len = u32::try_from(len).expect("pages are far shorter than 2³² entries");
                msgpack::write_array_len(self.out, len).expect(INTO_MEMORY);
            }
        }
    }

    /// The map at this place of the array.
    pub(super) fn item(&mut self, at: usize) -> Map<'_> {
        if at > 0 && self.subprotocol == Subprotocol::Json {
            self.out.push(b',');
        }
        Map::open(self.subprotocol, self.out)
    }

    pub(super) fn array_end(&mut self) {
        if self.subprotocol == Subprotocol::Json {
            self.out.push(b']');
        }
    }
}

fn write_digits(out: &mut Vec<u8>, number: u64) {
    serde_json::to_writer(out, &number).expect(INTO_MEMORY);
}

fn write_text(subprotocol: Subprotocol, out: &mut Vec<u8>, text: &str) {
    match subprotocol {
        Subprotocol::Json => serde_json::to_writer(out, text).expect(INTO_MEMORY),
        Subprotocol::MsgPack => msgpack::write_str(out, text).expect(INTO_MEMORY),
    }
}

/// Longest text whose length fits into its first byte.
const FIXSTR_MAX: usize = 31;

/// Puts the header of the text that stands after `start` into the byte that was left free there.
fn text_header(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start - 1;
    let len_byte = u8::try_from(len).expect("an id has at most 41 bytes");
    if len <= FIXSTR_MAX {
        out[start] = 0xa0 | len_byte;
    } else {
        out[start] = 0xd9;
        out.insert(start + 1, len_byte);
    }
}
