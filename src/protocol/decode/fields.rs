//! The fields of one map, found but not yet read.

use std::borrow::Cow;

use super::Fault;
use super::value::{Integer, Value};
use crate::protocol::body::bounded;
use crate::protocol::key::Key;
use crate::protocol::{ErrorCode, REF_BYTES_MAX, RequestRef};

/// Where the known fields of a frame (or of `since`, or of `file`) stand in the payload.
pub(super) struct Fields<'a> {
    values: [Option<Value<'a>>; Key::CLIENT_COUNT],
    /// A bit for each field that came more than once. Only a fault if the frame has such a field.
    repeated: u32,
}

const _: () = assert!(Key::CLIENT_COUNT <= 32, "`repeated` has a bit for each field");

impl<'a> Fields<'a> {
    pub(super) fn new() -> Self {
        Self { values: [None; Key::CLIENT_COUNT], repeated: 0 }
    }

    pub(super) fn put(&mut self, key: Key, value: Value<'a>) {
        if self.values[key as usize].replace(value).is_some() {
            self.repeated |= 1 << key as usize;
        }
    }

    /// The field as it stands there, `null` included.
    fn any(&self, key: Key) -> Result<Option<Value<'a>>, Fault> {
        if self.repeated & (1 << key as usize) != 0 {
            return Err(Fault::bad_frame(format!("`{}` comes twice", key.json())));
        }
        Ok(self.values[key as usize])
    }

    /// The field, if it is there and not `null`.
    pub(super) fn get(&self, key: Key) -> Result<Option<Value<'a>>, Fault> {
        Ok(self.any(key)?.filter(|value| !value.is_null()))
    }

    pub(super) fn text(&self, key: Key) -> Result<Option<Cow<'a, str>>, Fault> {
        match self.get(key)? {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| Fault::kind(key, "a string")),
        }
    }

    pub(super) fn text_required(&self, key: Key) -> Result<Cow<'a, str>, Fault> {
        self.text(key)?.ok_or_else(|| Fault::missing(key))
    }

    /// Text of at most `bytes_max` bytes that can be stored.
    pub(super) fn short(&self, key: Key, bytes_max: usize) -> Result<Option<Cow<'a, str>>, Fault> {
        let text = self.text(key)?;
        match &text {
            Some(text) if text.len() > bytes_max => Err(Fault::too_long(key, bytes_max)),
            Some(text) if text.contains('\0') => Err(Fault::bad_frame(format!("`{}` holds U+0000", key.json()))),
            _ => Ok(text),
        }
    }

    /// A message's number. What is no number at all is a bad frame, every other number a bad seq.
    pub(super) fn seq(&self, key: Key) -> Result<Option<u64>, Fault> {
        match self.get(key)?.map(Value::integer) {
            None => Ok(None),
            Some(Integer::Is(seq)) if u64::try_from(seq).is_ok() => Ok(u64::try_from(seq).ok()),
            Some(Integer::Is(_) | Integer::Other) => {
                Err(Fault::new(ErrorCode::BadSeq, format!("`{}` must be an integer from 0", key.json())))
            }
            Some(Integer::NoNumber) => Err(Fault::kind(key, "an integer")),
        }
    }

    /// A positive count.
    pub(super) fn count(&self, key: Key) -> Result<Option<u32>, Fault> {
        match self.get(key)?.map(Value::integer) {
            None => Ok(None),
            // A count is cut or refused by its own, lower limit.
            Some(Integer::Is(count @ 1..)) => Ok(Some(u32::try_from(count).unwrap_or(u32::MAX))),
            Some(_) => Err(Fault::kind(key, "an integer from 1")),
        }
    }

    /// `body` as compact JSON text.
    pub(super) fn body(&self, bytes_max: usize) -> Result<Cow<'a, str>, Fault> {
        let value = self.any(Key::Body)?.ok_or_else(|| Fault::missing(Key::Body))?;
        Ok(bounded(value.body()?, bytes_max)?)
    }

    pub(super) fn request_ref(&self) -> Result<Option<RequestRef>, Fault> {
        let Some(value) = self.get(Key::Ref)? else { return Ok(None) };
        let found = match value.integer() {
            Integer::Is(number) => match (u64::try_from(number), i64::try_from(number)) {
                (Ok(number), _) => Some(RequestRef::Unsigned(number)),
                (_, Ok(number)) => Some(RequestRef::Negative(number)),
                _ => None,
            },
            Integer::Other => None,
            Integer::NoNumber => match value.text() {
                Some(text) if text.len() > REF_BYTES_MAX => return Err(Fault::too_long(Key::Ref, REF_BYTES_MAX)),
                text => text.map(|text| RequestRef::Text(text.into())),
            },
        };
        found.map(Some).ok_or_else(|| Fault::kind(Key::Ref, "an integer of 64 bits or a string"))
    }
}
