//! Lua scripts: loaded on demand, run by digest.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use fred::types::Value;

use super::Redis;
use super::call::{Call, slot_of};
use super::failure::failed;
use crate::error::{Error, Kind, Result};

/// A script of ours. Works on Redis ≥ 6.2 and Valkey ≥ 7.2: no functions, no flags.
pub struct Script {
    name: &'static str,
    source: &'static str,
    digest: OnceLock<String>,
}

/// An argument of a script or a command.
#[derive(Debug, Clone)]
pub enum Arg {
    /// A number.
    Int(i64),
    /// Bytes.
    Bytes(Bytes),
}

/// A script of `lua/` by name (for errors) and file, with `lua/prelude.lua` before it.
macro_rules! script {
    ($name:literal, $file:literal) => {
        Script::new($name, concat!(include_str!("lua/prelude.lua"), include_str!(concat!("lua/", $file))))
    };
}
pub(super) use script;

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Bytes(Bytes::from(text.into_bytes()))
    }
}

impl From<Vec<u8>> for Arg {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<Bytes> for Arg {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<u64> for Arg {
    fn from(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl TryFrom<Arg> for Value {
    type Error = fred::error::Error;

    fn try_from(arg: Arg) -> Result<Self, Self::Error> {
        Ok(match arg {
            Arg::Int(number) => Self::Integer(number),
            Arg::Bytes(bytes) => Self::Bytes(bytes),
        })
    }
}

impl Script {
    /// A script by name (for errors) and source.
    pub const fn new(name: &'static str, source: &'static str) -> Self {
        Self { name, source, digest: OnceLock::new() }
    }

    /// Runs the script; sends its source only if the server doesn't know it.
    ///
    /// # Errors
    /// As Redis answers. After [`Kind::RedisUnavailable`] it is unclear whether the script ran.
    pub async fn run(&self, redis: &Redis, keys: Vec<String>, args: Vec<Arg>) -> Result<Reply> {
        self.run_words(redis, || (keys.clone(), args.clone())).await
    }

    /// As [`Script::run`], with keys and arguments as `words` gives them: it is asked again if the server
    /// doesn't know the script, so that nothing is copied for that. For calls that are many or large.
    ///
    /// # Errors
    /// As [`Script::run`].
    pub(super) async fn run_words(&self, redis: &Redis, words: impl Fn() -> Words) -> Result<Reply> {
        Ok(self.send(redis, words, None).await?.0)
    }

    /// As [`Script::run_words`]; then waits `within` at most until so many replicas have what it wrote, and
    /// gives how many have.
    pub(super) async fn run_replicated(
        &self,
        redis: &Redis,
        words: impl Fn() -> Words,
        (replicas, within): (u32, Duration),
    ) -> Result<(Reply, u32)> {
        let (reply, reached) = self.send(redis, words, Some((replicas, within))).await?;
        Ok((reply, reached.unwrap_or(0)))
    }

    async fn send(
        &self,
        redis: &Redis,
        words: impl Fn() -> Words,
        replicas: Option<(u32, Duration)>,
    ) -> Result<(Reply, Option<u32>)> {
        let digest = self.digest.get_or_init(|| fred::util::sha1_hash(self.source));
        let known = call("EVALSHA", Arg::from(digest.as_str()), words(), replicas)?;
        let mut answer = redis.send(known).await;
        if answer.as_ref().is_err_and(|e| e.details().starts_with("NOSCRIPT")) {
            // The server did not run anything, so sending it again is safe.
            let source = Arg::Bytes(Bytes::from_static(self.source.as_bytes()));
            answer = redis.send(call("EVAL", source, words(), replicas)?).await;
        }
        let answer = answer.map_err(|e| failed(self.name, e))?;
        Ok((Reply::from_fred(answer.value), answer.replicas))
    }
}

/// Keys and arguments of a script.
pub(super) type Words = (Vec<String>, Vec<Arg>);

fn call(name: &'static str, script: Arg, (keys, args): Words, replicas: Option<(u32, Duration)>) -> Result<Call> {
    // In a Redis Cluster it would be refused; so every test on one Redis looks as well.
    debug_assert!(
        keys.windows(2).all(|pair| slot_of(pair[0].as_bytes()) == slot_of(pair[1].as_bytes())),
        "keys of one call in several slots: {keys:?}"
    );
    let mut words = Vec::with_capacity(2 + keys.len() + args.len());
    words.extend([script, Arg::from(keys.len() as u64)]);
    words.extend(keys.into_iter().map(Arg::from));
    words.extend(args);
    let mut call = Call::new(name, words)?;
    call.replicas = replicas;
    Ok(call)
}

/// An answer of Redis, taken apart by its reader. Payloads are slices of the connection's buffer:
/// copy what lives long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A string.
    Bytes(Bytes),
    /// A list.
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn from_fred(value: Value) -> Self {
        match value {
            Value::Null => Self::Nil,
            Value::Boolean(yes) => Self::Int(i64::from(yes)),
            Value::Integer(number) => Self::Int(number),
            Value::Double(number) => Self::Bytes(Bytes::from(number.to_string())),
            Value::String(text) => Self::Bytes(text.into_inner()),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Queued => Self::Bytes(Bytes::from_static(b"QUEUED")),
            Value::Array(items) => Self::List(items.into_iter().map(Self::from_fred).collect()),
            Value::Map(map) => Self::List(
                map.inner()
                    .into_iter()
                    .flat_map(|(key, value)| [Self::Bytes(key.into_bytes()), Self::from_fred(value)])
                    .collect(),
            ),
        }
    }

    /// The list, or an error that names what was expected. Nil is an empty list.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is something else.
    pub fn list(self) -> Result<Vec<Self>> {
        match self {
            Self::List(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            other => Err(unexpected("a list", &other)),
        }
    }

    /// The number.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is none.
    pub fn int(&self) -> Result<i64> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Bytes(bytes) => std::str::from_utf8(bytes)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| unexpected("a number", self)),
            other => Err(unexpected("a number", other)),
        }
    }

    /// The text, borrowed.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is none.
    pub fn text(&self) -> Result<&str> {
        match self {
            Self::Bytes(bytes) => std::str::from_utf8(bytes).map_err(|_| unexpected("text", self)),
            other => Err(unexpected("text", other)),
        }
    }

    /// The text, or nothing.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is something else.
    pub fn optional_text(&self) -> Result<Option<&str>> {
        if *self == Self::Nil { Ok(None) } else { self.text().map(Some) }
    }

    /// Whether there is nothing.
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }
}

fn unexpected(wanted: &str, got: &Reply) -> Error {
    let got = match got {
        Reply::Nil => "nothing",
        Reply::Int(_) => "a number",
        Reply::Bytes(_) => "bytes",
        Reply::List(_) => "a list",
    };
    Error::new(Kind::Corrupt, format!("read an answer of Redis: {wanted} expected, {got} found"))
}
