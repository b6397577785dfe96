//! What a body means, in 128 bits.
//!
//! # Design
//! A digest is of a body's meaning, not of its bytes: Postgres orders the keys of an object anew
//! and MessagePack writes numbers its own way, and neither alters a message.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::error::Error;

/// 128 bits of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(u128);

impl Digest {
    /// Of bytes as they are.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut first = [0; 16];
        first.copy_from_slice(&Sha256::digest(bytes)[..16]);
        Self(u128::from_be_bytes(first))
    }

    /// Of what JSON text means: the order of keys, white space and the spelling of numbers don't
    /// matter. Text that is no JSON has the digest of its bytes.
    ///
    /// ```
    /// use millstream::verify::Digest;
    /// assert_eq!(Digest::of_json(r#"{"a": 1.50, "b": 2e3}"#), Digest::of_json(r#"{"b":2000,"a":1.5}"#));
    /// assert_ne!(Digest::of_json("1"), Digest::of_json("2"));
    /// ```
    pub fn of_json(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(value) => Self::of_value(&value),
            Err(_) => Self::of_bytes(text.as_bytes()),
        }
    }

    /// Of a JSON value.
    pub fn of_value(value: &Value) -> Self {
        let mut text = String::new();
        write_canonical(value, &mut text);
        Self::of_bytes(text.as_bytes())
    }
}

/// Below this, every whole number is a double of its own (2^53).
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

fn write_canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort_unstable();
            out.push('{');
            for key in keys {
                out.push_str(&Value::from(key.as_str()).to_string());
                out.push(':');
                write_canonical(&map[key], out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for item in items {
                write_canonical(item, out);
                out.push(',');
            }
            out.push(']');
        }
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            // Minus zero is zero: Postgres knows only one.
            Some(float) if float.fract() == 0.0 && float.abs() < WHOLE_MAX => {
                out.push_str(&format!("{:.0}", float + 0.0))
            }
            _ => out.push_str(&number.to_string()),
        },
        other => out.push_str(&other.to_string()),
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let number = u128::from_str_radix(text, 16);
        number.map(Self).map_err(|_| Error::invalid(format!("parse the digest {text:?}: not hexadecimal")))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}
