//! Finds the fields of a JSON object; nothing inside a value is looked at.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::Fault;
use super::fields::Fields;
use super::value::Value;
use crate::protocol::key::Key;
use crate::protocol::{DEPTH_MAX, Subprotocol};

/// The fields of a whole frame.
pub(super) fn frame(payload: &str) -> Result<Fields<'_>, Fault> {
    // The frame's own map is one level more than its deepest value may have.
    if deeper_than(payload, DEPTH_MAX + 1) {
        return Err(Fault::bad_frame("nested deeper than 32"));
    }
    fields(payload).map_err(|error| {
        if error.is_data() { Fault::bad_frame("not an object") } else { Fault::bad_frame(format!("not JSON: {error}")) }
    })
}

/// The known fields of an object. serde_json checks the syntax of all of it, without recursion.
pub(super) fn fields(object: &str) -> serde_json::Result<Fields<'_>> {
    let mut deserializer = serde_json::Deserializer::from_str(object);
    let fields = deserializer.deserialize_map(FieldsVisitor)?;
    deserializer.end()?;
    Ok(fields)
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::new();
        while let Some(key) = map.next_key_seed(KeySeed)? {
            match key {
                Some(key) => fields.put(key, Value::Json(map.next_value::<&'de RawValue>()?.get())),
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(fields)
    }
}

/// A name of a field, without keeping its text.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Option<Key>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<Key>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Option<Key>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<Key>, E> {
        Ok(Key::of_client(Subprotocol::Json, name))
    }
}

/// Whether brackets outside strings are nested deeper than `depth_max`.
fn deeper_than(json: &str, depth_max: usize) -> bool {
    let opening = |byte: &&u8| matches!(byte, b'{' | b'[');
    // Nearly every frame has fewer brackets than levels are allowed: one fast count settles it.
    if json.as_bytes().iter().filter(opening).count() <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => (),
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => (),
        }
    }
    false
}
