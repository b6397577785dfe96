//! The keys of the settings, found by walking the defaults: nothing else lists them.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Value;

use super::{
    Durability, EndpointKind, EndpointSettings, FirstJoin, LogFormat, Preset, Secret, Settings, Span, StartFrom,
};

/// How alike a key must be to be offered instead of an unknown one, from 0 to 1.
const ALIKE: f64 = 0.6;

/// How a value is written where there is only text: in a variable or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// As it stands.
    Text,
    /// As it stands, and never shown.
    Secret,
    /// Digits.
    Number,
    /// `true` or `false`.
    Flag,
    /// Digits or a word.
    NumberOrWord,
    /// Separated by commas.
    List,
    /// Separated by commas, and never shown.
    SecretList,
}

/// A key of the settings.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// Its names with dots between them; `*` stands for the number of an endpoint.
    pub(super) path: String,
    /// How it is written.
    pub(super) shape: Shape,
    /// What it must be, for people.
    pub(super) expects: &'static str,
    /// Its default; none means that it is not set.
    pub(super) default: Option<Value>,
    fits: fn(&Value) -> bool,
}

impl Key {
    /// What is wrong with `value` for this key, if anything is.
    pub(super) fn objection(&self, value: &Value) -> Option<String> {
        if (self.fits)(value) {
            return None;
        }
        Some(match self.shape {
            Shape::Secret | Shape::SecretList => format!("{} expected", self.expects),
            _ => format!("{value} given, {} expected", self.expects),
        })
    }

    /// Reads `text` as this key is written in variables and flags. What doesn't fit stays text, and
    /// [`Key::objection`] says so.
    pub(super) fn read(&self, text: &str) -> Value {
        let trimmed = text.trim();
        let as_text = || Value::String(text.to_owned());
        match self.shape {
            Shape::Text | Shape::Secret => as_text(),
            Shape::Number => trimmed.replace('_', "").parse().map_or_else(|_| as_text(), Value::Integer),
            Shape::NumberOrWord => trimmed.parse().map_or_else(|_| Value::String(trimmed.to_owned()), Value::Integer),
            Shape::Flag => match trimmed.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => Value::Boolean(true),
                "false" | "0" | "no" | "off" => Value::Boolean(false),
                _ => as_text(),
            },
            Shape::List | Shape::SecretList => {
                let parts = trimmed.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
                Value::Array(parts.map(|part| Value::String(part.to_owned())).collect())
            }
        }
    }
}

/// A section or a value of the settings.
pub(super) trait Node {
    /// Adds its keys, under `path`, with the defaults that `self` holds.
    fn describe(&self, path: &str, keys: &mut Vec<Key>);
}

/// `name` below `path`.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// All keys, in the order of their declaration.
pub(super) fn all() -> &'static [Key] {
    static KEYS: LazyLock<Vec<Key>> = LazyLock::new(|| {
        let mut keys = Vec::new();
        Settings::default().describe("", &mut keys);
        keys
    });
    &KEYS
}

/// The key with this path, in which a number may stand for `*`.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let path = general(path);
    all().iter().find(|key| key.path == path)
}

/// The path with `*` in place of numbers.
pub(super) fn general(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    path.split('.').map(|part| if is_number(part) { "*" } else { part }).collect::<Vec<_>>().join(".")
}

/// The known key that is most like the unknown `path`, if one is.
pub(super) fn nearest(path: &str) -> Option<String> {
    let path = general(&path.to_lowercase());
    let last = |path: &str| path.rsplit('.').next().map(str::to_owned);
    let likeness = |key: &Key| {
        let whole = strsim::normalized_damerau_levenshtein(&path, &key.path);
        // The right name in the wrong section, or the name alone, is no typing mistake but as clear.
        if last(&path) == last(&key.path) { ALIKE + whole * (1.0 - ALIKE) } else { whole }
    };
    let best = all().iter().map(|key| (likeness(key), key)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= ALIKE).then(|| best.1.path.clone())
}

fn leaf<T: Serialize + DeserializeOwned>(path: &str, default: &T, shape: Shape, expects: &'static str) -> Key {
    let default = Value::try_from(default).ok();
    Key { path: path.to_owned(), shape, expects, default, fits: |value| T::deserialize(value.clone()).is_ok() }
}

macro_rules! leaves {
    ($($type:ty: $shape:ident $expects:literal;)*) => {
        $(impl Node for $type {
            fn describe(&self, path: &str, keys: &mut Vec<Key>) {
                keys.push(leaf(path, self, Shape::$shape, $expects));
            }
        })*
    };
}

leaves! {
    String: Text "text";
    bool: Flag "true or false";
    u16: Number "a whole number from 0 to 65535";
    u32: Number "a whole number from 0 to 4294967295";
    u64: Number "a whole number";
    usize: Number "a whole number";
    Span: NumberOrWord "a duration such as \"200ms\" or \"1h\", or a number of seconds";
    Vec<String>: List "a list of texts";
    Vec<EndpointKind>: List "a list of message, room_events, data";
    Durability: Text "fsync, replicated(n) or memory";
    FirstJoin: NumberOrWord "a number of messages, or \"start\"";
    Preset: Text "default, high_performance, low_latency, high_throughput or bulk";
    StartFrom: Text "oldest or now";
    LogFormat: Text "text or json";
    Option<String>: Text "text";
    Option<PathBuf>: Text "a path";
    Option<bool>: Flag "true or false";
    Option<u32>: Number "a whole number from 0 to 4294967295";
    Option<Span>: NumberOrWord "a duration such as \"200ms\" or \"1h\", or a number of seconds";
}

impl Node for Secret {
    fn describe(&self, path: &str, keys: &mut Vec<Key>) {
        let key = leaf(path, self, Shape::Secret, "text");
        keys.push(Key { default: Some(Value::String(self.expose().to_owned())), ..key });
    }
}

impl Node for Vec<Secret> {
    fn describe(&self, path: &str, keys: &mut Vec<Key>) {
        let default = self.iter().map(|secret| Value::String(secret.expose().to_owned())).collect();
        let key = leaf(path, self, Shape::SecretList, "a list of texts");
        keys.push(Key { default: Some(Value::Array(default)), ..key });
    }
}

impl Node for Vec<EndpointSettings> {
    fn describe(&self, path: &str, keys: &mut Vec<Key>) {
        EndpointSettings::default().describe(&join(path, "*"), keys);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_known_once_and_its_default_fits() {
        let mut paths: Vec<_> = all().iter().map(|key| &key.path).collect();
        paths.sort();
        assert!(paths.windows(2).all(|pair| pair[0] != pair[1]));
        assert!(paths.len() > 80);
        for key in all() {
            let objection = key.default.as_ref().and_then(|default| key.objection(default));
            assert_eq!(objection, None, "{}", key.path);
        }
    }

    #[test]
    fn the_nearest_key_is_found_through_typing_mistakes_and_wrong_sections() {
        assert_eq!(nearest("edge.listn").as_deref(), Some("edge.listen"));
        assert_eq!(nearest("archve.max_rows").as_deref(), Some("archive.max_rows"));
        assert_eq!(nearest("max_rows").as_deref(), Some("archive.max_rows"));
        assert_eq!(nearest("callback.endpoints.3.ulr").as_deref(), Some("callback.endpoints.*.url"));
        assert_eq!(nearest("weather"), None);
    }

    #[test]
    fn an_objection_names_what_was_given_but_never_a_secret() {
        let objection = |path: &str, value: Value| find(path).unwrap().objection(&value).unwrap();
        assert_eq!(
            objection("redis.partitions", Value::Integer(70_000)),
            "70000 given, a whole number from 0 to 65535 expected"
        );
        assert_eq!(objection("auth.hs256_secret", Value::Integer(123)), "text expected");
    }
}
