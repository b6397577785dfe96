//! A command on its way to Redis: its words, and where it belongs.

use std::time::Duration;

use fred::types::Value;

use crate::error::{Error, Kind, Result};

/// A command with its arguments.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub name: &'static str,
    pub args: Vec<Value>,
    /// The slot whose node is meant, if the words don't say it.
    pub beside: Option<u16>,
    /// Whether as many replicas are to have what it wrote, and how long that is waited for.
    pub replicas: Option<(u32, Duration)>,
}

/// What came of a call.
#[derive(Debug)]
pub(super) struct Answer {
    pub value: Value,
    /// How many replicas have it, if that was asked.
    pub replicas: Option<u32>,
}

impl Call {
    pub(super) fn new<A>(name: &'static str, args: Vec<A>) -> Result<Self>
    where
        A: TryInto<Value>,
        A::Error: Into<fred::error::Error>,
    {
        let args = args.into_iter().map(TryInto::try_into).collect::<Result<_, A::Error>>().map_err(|error| {
            let error: fred::error::Error = error.into();
            Error::new(Kind::Internal, format!("put {name} into words")).caused_by(error)
        })?;
        Ok(Self { name, args, beside: None, replicas: None })
    }

    /// The slot of a cluster that the command belongs to; nothing: any node can answer.
    /// Source: the key specifications in `redis.io/docs` per command.
    pub(super) fn slot(&self) -> Option<u16> {
        if self.beside.is_some() {
            return self.beside;
        }
        let at = match self.name {
            "PING" | "TIME" | "WAIT" | "INFO" | "CONFIG" | "CLUSTER" | "CLIENT" | "COMMAND" => return None,
            "XINFO" | "XGROUP" => 1,
            "EVAL" | "EVALSHA" => 2,
            "XREAD" | "XREADGROUP" => {
                1 + self.args.iter().position(|arg| arg.as_bytes().is_some_and(|word| word == b"STREAMS"))?
            }
            _ => 0,
        };
        self.args.get(at).and_then(Value::as_bytes).map(slot_of)
    }
}

/// The slot of a key.
pub(super) fn slot_of(key: &[u8]) -> u16 {
    fred::util::redis_keyslot(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_sent_where_its_key_is() {
        let slot = |name, args: &[&str]| Call::new(name, args.to_vec()).unwrap().slot();
        let of = |key: &str| Some(slot_of(key.as_bytes()));
        assert_eq!(slot("GET", &["m:{1}:epoch"]), of("1"));
        assert_eq!(slot("XINFO", &["STREAM", "m:{1}:log"]), of("1"));
        assert_eq!(slot("XGROUP", &["CREATE", "m:{1}:log", "g", "0"]), of("1"));
        assert_eq!(slot("EVALSHA", &["digest", "2", "m:{1}:log", "m:{1}:seq", "a"]), of("1"));
        assert_eq!(slot("XREADGROUP", &["GROUP", "g", "c", "STREAMS", "m:{1}:log", ">"]), of("1"));
        assert_eq!(slot("TIME", &[]), None);
        let mut beside = Call::new("TIME", Vec::<&str>::new()).unwrap();
        beside.beside = Some(7);
        assert_eq!(beside.slot(), Some(7));
    }
}
