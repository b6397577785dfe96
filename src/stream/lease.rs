//! Leases on partitions, and which workers of a group live.
//!
//! A lease is a string that expires, `<token> <worker>`. The token grows with each owner, also over
//! a wipe of Redis, so it fences: a script that is given an old one does nothing.

use std::time::Duration;

use super::{Arg, Redis, Script};
use crate::error::Result;
use crate::model::PartitionId;

static ACQUIRE: Script = Script::new("take a lease", include_str!("lua/lease_acquire.lua"));
static RENEW: Script = Script::new("renew a lease", include_str!("lua/lease_renew.lua"));
static RELEASE: Script = Script::new("release a lease", include_str!("lua/lease_release.lua"));
static HEARTBEAT: Script = Script::new("say that a worker lives", include_str!("lua/worker_heartbeat.lua"));

/// What the value of a lease with this token begins with.
pub(super) fn value_prefix(token: u64) -> String {
    format!("{token} ")
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The worker.
    pub worker: String,
    /// Its token.
    pub token: u64,
}

impl Redis {
    /// Takes the lease of a partition for `ttl`; nothing if another worker holds it. If `worker`
    /// itself holds it (an answer got lost), it gets a new token.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn acquire_lease(&self, group: &str, p: PartitionId, worker: &str, ttl: Duration) -> Result<Option<u64>> {
        let keys = vec![self.keys().lease(group, p), self.keys().lease_token(group, p)];
        let token = ACQUIRE.run(self, keys, vec![worker.into(), millis(ttl)]).await?.int()?;
        Ok(u64::try_from(token).ok().filter(|token| *token > 0))
    }

    /// Renews a lease for `ttl` from now; `false` if it isn't ours any more.
    ///
    /// # Errors
    /// As Redis answers: whether it was renewed is unclear then.
    pub async fn renew_lease(&self, group: &str, p: PartitionId, token: u64, ttl: Duration) -> Result<bool> {
        let keys = vec![self.keys().lease(group, p)];
        Ok(RENEW.run(self, keys, vec![value_prefix(token).into(), millis(ttl)]).await?.int()? == 1)
    }

    /// Releases a lease, so that the next owner starts at once; `false` if it wasn't ours.
    ///
    /// # Errors
    /// As Redis answers: it lapses by itself then.
    pub async fn release_lease(&self, group: &str, p: PartitionId, token: u64) -> Result<bool> {
        let keys = vec![self.keys().lease(group, p)];
        Ok(RELEASE.run(self, keys, vec![value_prefix(token).into()]).await?.int()? == 1)
    }

    /// Who holds the lease of a partition.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn lease_holder(&self, group: &str, p: PartitionId) -> Result<Option<Holder>> {
        let reply = self.command("GET", vec![self.keys().lease(group, p)]).await?;
        Ok(reply
            .optional_text()?
            .and_then(|value| value.split_once(' '))
            .and_then(|(token, worker)| Some(Holder { worker: worker.to_owned(), token: token.parse().ok()? })))
    }

    /// Says that `worker` lives, and hears which workers were alive within `ttl`, in order of their
    /// names, this one among them.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn worker_heartbeat(&self, group: &str, worker: &str, ttl: Duration) -> Result<Vec<String>> {
        let reply = HEARTBEAT.run(self, vec![self.keys().workers(group)], vec![worker.into(), millis(ttl)]).await?;
        let mut workers: Vec<String> =
            reply.list()?.iter().map(|name| Ok(name.text()?.to_owned())).collect::<Result<_>>()?;
        workers.sort_unstable();
        Ok(workers)
    }

    /// The workers of a group that said within `ttl` that they live.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn workers_alive(&self, group: &str, ttl: Duration) -> Result<Vec<String>> {
        let key = self.keys().workers(group);
        let since = self.time_ms(&key).await?.saturating_sub(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let args = vec![Arg::from(key), since.into(), "+inf".into()];
        let reply = self.command("ZRANGEBYSCORE", args).await?;
        reply.list()?.iter().map(|name| Ok(name.text()?.to_owned())).collect()
    }

    /// Says that `worker` is gone.
    ///
    /// # Errors
    /// As Redis answers: it is forgotten after a while then.
    pub async fn worker_gone(&self, group: &str, worker: &str) -> Result<()> {
        self.command("ZREM", vec![Arg::from(self.keys().workers(group)), worker.into()]).await.map(|_| ())
    }
}

fn millis(span: Duration) -> Arg {
    Arg::from(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}
