//! Durations as people write them.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A duration in a setting: `"200ms"`, `"1h 30m"`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// `secs` seconds.
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// `ms` milliseconds.
    pub const fn millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }
}

impl Deref for Span {
    type Target = Duration;
    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"200ms\" or \"1h\", or a number of seconds")
            }

            fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Span, E> {
                Ok(Span::secs(secs))
            }

            fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Span, E> {
                u64::try_from(secs).map(Span::secs).map_err(|_| E::invalid_value(de::Unexpected::Signed(secs), &self))
            }

            fn visit_f64<E: de::Error>(self, secs: f64) -> Result<Span, E> {
                Duration::try_from_secs_f64(secs)
                    .map(Span)
                    .map_err(|_| E::invalid_value(de::Unexpected::Float(secs), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Span, E> {
                if let Ok(secs) = text.trim().parse::<u64>() {
                    return Ok(Span::secs(secs));
                }
                humantime::parse_duration(text)
                    .map(Span)
                    .map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
