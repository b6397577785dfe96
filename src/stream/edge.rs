//! What an edge keeps in Redis: its sign of life, its inbox, and the requests it sends to replay workers.

use std::time::Duration;

use super::{Arg, RawEntry, Redis};
use crate::error::{Error, Kind, Result};
use crate::model::{EdgeNote, EntryId, PartitionId, Requests};

/// Requests that wait in a replay stream at most; older ones have been asked again by then.
const REQUESTS_MAX: u64 = 100_000;

impl Redis {
    /// The edges that give signs of life.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn live_edges(&self) -> Result<Vec<String>> {
        let mut alive = Vec::new();
        for edge in self.command("SMEMBERS", vec![self.keys().edges()]).await?.list()? {
            let edge = edge.text()?.to_owned();
            if self.edge_is_alive(&edge).await? {
                alive.push(edge);
            } else {
                let _gone = self.command("SREM", vec![self.keys().edges(), edge]).await?;
            }
        }
        Ok(alive)
    }

    /// Renews the sign of life of an edge for `ttl`; gives whether it was still there.
    /// If it wasn't, others may have taken the edge for dead and ended its stays.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn renew_edge(&self, edge: &str, ttl: Duration) -> Result<bool> {
        let args =
            vec![self.keys().edge_alive(edge), "1".into(), "PX".into(), ttl.as_millis().to_string(), "GET".into()];
        let before = self.command("SET", args).await?;
        let _known = self.command("SADD", vec![self.keys().edges(), edge.to_owned()]).await?;
        Ok(!before.is_nil())
    }

    /// Whether an edge gives signs of life.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn edge_is_alive(&self, edge: &str) -> Result<bool> {
        Ok(self.command("EXISTS", vec![self.keys().edge_alive(edge)]).await?.int()? == 1)
    }

    /// Whether an edge has a connection to Redis. A process that is killed loses it at once, long before its sign of life
    /// runs out; a frozen one keeps it. Yes where nobody knows: a node of a cluster knows its own connections only.
    /// Source: Redis docs, PUBSUB NUMSUB.
    pub async fn edge_is_connected(&self, edge: &str) -> bool {
        if self.is_cluster() {
            return true;
        }
        let counted = self.command("PUBSUB", vec!["NUMSUB".into(), self.keys().edge_presence(edge)]).await;
        let count = || counted.ok()?.list().ok()?.get(1)?.int().ok();
        count().is_none_or(|listeners| listeners > 0)
    }

    /// Takes an edge's sign of life and inbox away, when it stops.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn forget_edge(&self, edge: &str) -> Result<()> {
        let _alive = self.command("DEL", vec![self.keys().edge_alive(edge)]).await?;
        self.command("DEL", vec![self.keys().inbox(edge)]).await.map(|_| ())
    }

    /// Asks the replay workers of a partition.
    ///
    /// # Errors
    /// As Redis answers. Asking twice is harmless.
    pub async fn ask_replay(&self, partition: PartitionId, requests: &Requests) -> Result<()> {
        let encoded = rmp_serde::to_vec(requests).map_err(|e| Error::internal("encode requests").caused_by(e))?;
        let mut args = vec![Arg::from(self.keys().replay(partition)), "MAXLEN".into(), "~".into(), REQUESTS_MAX.into()];
        args.extend([Arg::from("*"), "q".into(), encoded.into()]);
        self.command("XADD", args).await.map(|_| ())
    }

    /// Deletes what an edge has taken out of its inbox, and keeps the rest alive for `ttl`.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn clear_inbox(&self, edge: &str, upto: EntryId, ttl: Duration) -> Result<()> {
        let key = self.keys().inbox(edge);
        let _trimmed = self.command("XTRIM", vec![key.clone(), "MINID".into(), upto.next().to_string()]).await?;
        let _set = self.command("EXPIRE", vec![key, ttl.as_secs().to_string()]).await?;
        Ok(())
    }
}

impl RawEntry {
    /// Reads an entry of an inbox.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is none.
    pub fn edge_note(&self) -> Result<EdgeNote> {
        let corrupt = || Error::new(Kind::Corrupt, format!("read entry {} of an inbox", self.id));
        rmp_serde::from_slice(self.field("m").ok_or_else(corrupt)?).map_err(|e| corrupt().caused_by(e))
    }
}
