//! Whether Redis keeps what `redis.durability` promises.

use super::{Redis, Reply};
use crate::config::Durability;
use crate::error::{Error, Kind, Result};

/// What a look at the settings of Redis has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified {
    /// It keeps the promise.
    Yes,
    /// It could not be seen, and why not: Redis doesn't let everybody look.
    Unknown(String),
    /// It doesn't keep it: the commands that mend it.
    No(Vec<String>),
}

/// A setting of Redis with the value it must have.
type Demand = (&'static str, &'static str);

/// An entry that was evicted is lost, however durable it was.
const KEEPS: &[Demand] = &[("maxmemory-policy", "noeviction")];
/// With any other `appendfsync`, a crash loses what the disk has not got yet.
const WRITES: &[Demand] = &[("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];

impl Redis {
    /// Looks whether Redis is set so that it keeps what `wanted` promises.
    ///
    /// # Errors
    /// As Redis answers, but for its refusal to show its settings: that is [`Verified::Unknown`].
    pub async fn verify_durability(&self, wanted: Durability) -> Result<Verified> {
        let demands = match wanted {
            Durability::Memory => return Ok(Verified::Yes),
            Durability::Fsync => WRITES,
            Durability::Replicated(_) => KEEPS,
        };
        let mut mend = Vec::new();
        for (name, needed) in demands {
            match self.setting(name).await {
                Ok(value) if value == *needed => (),
                Ok(_) => mend.push(format!("CONFIG SET {name} {needed}")),
                Err(error) if error.kind() == Kind::RedisRejected => return Ok(Verified::Unknown(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        if !mend.is_empty() {
            return Ok(Verified::No(mend));
        }
        match wanted {
            Durability::Replicated(wanted) => self.verify_replicas(wanted).await,
            Durability::Fsync | Durability::Memory => Ok(Verified::Yes),
        }
    }

    /// The value of a setting of Redis; empty if it doesn't know it.
    ///
    /// # Errors
    /// [`Kind::RedisRejected`] if it doesn't let us look; otherwise as Redis answers.
    pub async fn setting(&self, name: &str) -> Result<String> {
        let reply = self.command("CONFIG", vec!["GET", name]).await?;
        let found = reply.list()?.into_iter().nth(1).unwrap_or(Reply::Nil);
        Ok(found.optional_text()?.unwrap_or_default().to_owned())
    }

    async fn verify_replicas(&self, wanted: u32) -> Result<Verified> {
        let info = self.command("INFO", vec!["replication"]).await?;
        let connected =
            info.text()?.lines().find_map(|line| line.strip_prefix("connected_slaves:")?.trim().parse().ok());
        match connected {
            // Replicas come and go; sends wait for them one by one.
            Some(connected) if wanted > connected => {
                Ok(Verified::Unknown(format!("{wanted} replicas are wanted, {connected} are connected")))
            }
            Some(_) => Ok(Verified::Yes),
            None => Ok(Verified::Unknown("Redis doesn't say how many replicas it has".to_owned())),
        }
    }
}

impl Verified {
    /// `self`, unless Redis is known not to keep the promise.
    ///
    /// # Errors
    /// [`Kind::Config`] with the commands that mend it.
    pub fn or_refuse(self, wanted: Durability) -> Result<Self> {
        let Self::No(mend) = self else { return Ok(self) };
        let message = format!(
            "rely on Redis for redis.durability = \"{wanted}\": it is set otherwise. These commands mend it (redis-cli):\n  \
             {}\n  CONFIG REWRITE",
            mend.join("\n  ")
        );
        Err(Error::new(Kind::Config, message))
    }
}
