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
        let (mut mend, mut unknown) = (Vec::new(), None);
        let servers = self.servers().await;
        for (name, server) in &servers {
            match server.as_ref().map_err(ToString::to_string) {
                Ok(server) => match server.differing(demands).await {
                    Ok(differing) => {
                        mend.extend(
                            differing.iter().map(|(key, needed)| format!("{}CONFIG SET {key} {needed}", at(name))),
                        );
                    }
                    Err(error) if name.is_empty() && error.kind() != Kind::RedisRejected => return Err(error),
                    Err(error) => unknown = Some(format!("{}{error}", at(name))),
                },
                // A replica that is away now may be a master tomorrow.
                Err(error) => unknown = Some(format!("{}{error}", at(name))),
            }
        }
        if !mend.is_empty() {
            mend.sort();
            return Ok(Verified::No(mend));
        }
        match (wanted, unknown) {
            (_, Some(why)) => Ok(Verified::Unknown(why)),
            (Durability::Replicated(wanted), None) => verify_replicas(&servers, wanted).await,
            (Durability::Fsync | Durability::Memory, None) => Ok(Verified::Yes),
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

    /// The demands that this server doesn't meet.
    async fn differing<'a>(&self, demands: &'a [Demand]) -> Result<Vec<&'a Demand>> {
        let mut differing = Vec::new();
        for demand in demands {
            if self.setting(demand.0).await? != demand.1 {
                differing.push(demand);
            }
        }
        Ok(differing)
    }
}

async fn verify_replicas(servers: &[(String, Result<Redis>)], wanted: u32) -> Result<Verified> {
    for (name, server) in servers {
        let Ok(server) = server else { continue };
        let info = server.info("replication").await?;
        // Of a cluster, masters and replicas answer.
        if !name.is_empty() && info.text("role") == Some("slave") {
            continue;
        }
        match info.number("connected_slaves") {
            // Replicas come and go; sends wait for them one by one.
            Some(connected) if u64::from(wanted) > connected => {
                let what = format!("{}{wanted} replicas are wanted, {connected} are connected", at(name));
                return Ok(Verified::Unknown(what));
            }
            Some(_) => {}
            None => return Ok(Verified::Unknown("Redis doesn't say how many replicas it has".to_owned())),
        }
    }
    Ok(Verified::Yes)
}

/// Which node of a cluster is meant; without one, nothing.
fn at(node: &str) -> String {
    match node.rsplit_once(':') {
        Some((host, port)) => format!("-h {host} -p {port} "),
        None => String::new(),
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
