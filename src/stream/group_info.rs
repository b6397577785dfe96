//! What Redis tells about consumer groups: who they are, where they are, what is pending.

use std::time::Duration;

use super::call::Call;
use super::failure::failed;
use super::group::{is_missing, millis};
use super::{Arg, Redis, Reply};
use crate::error::{Error, Kind, Result};
use crate::model::EntryId;

/// A consumer group as `XINFO GROUPS` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The last entry that was delivered to any of its consumers.
    pub last_delivered: EntryId,
    /// Entries after that, as Redis believes: absent or wrong after a trim on 7.0.
    pub lag: Option<u64>,
}

/// A consumer of a group as `XINFO CONSUMERS` tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name: a worker.
    pub name: String,
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// Milliseconds since it was last heard of. On 7.0 a quiet consumer looks idle.
    pub idle_ms: u64,
}

/// What a group holds pending in a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PendingSummary {
    /// How many entries.
    pub count: u64,
    /// The oldest of them.
    pub oldest: Option<EntryId>,
}

/// One pending entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEntry {
    /// Its id.
    pub id: EntryId,
    /// Whose it is.
    pub consumer: String,
    /// Milliseconds since it was last delivered.
    pub idle_ms: u64,
    /// How often it was delivered.
    pub deliveries: u64,
}

impl Redis {
    /// The groups of a stream; none if the stream doesn't exist.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn groups(&self, key: &str) -> Result<Vec<GroupInfo>> {
        match self.send(Call::new("XINFO", vec!["GROUPS", key])?).await {
            Ok(answer) => Reply::from_fred(answer.value).list()?.into_iter().map(group_info).collect(),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(failed("read the groups of a stream", error)),
        }
    }

    /// One group of a stream, if both exist.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn group(&self, key: &str, group: &str) -> Result<Option<GroupInfo>> {
        Ok(self.groups(key).await?.into_iter().find(|info| info.name == group))
    }

    /// The consumers of a group; none if the stream or the group doesn't exist.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn consumers(&self, key: &str, group: &str) -> Result<Vec<ConsumerInfo>> {
        match self.send(Call::new("XINFO", vec!["CONSUMERS", key, group])?).await {
            Ok(answer) => Reply::from_fred(answer.value).list()?.into_iter().map(consumer_info).collect(),
            Err(error) if is_missing(&error) || error.details().starts_with("NOGROUP") => Ok(Vec::new()),
            Err(error) => Err(failed("read the consumers of a group", error)),
        }
    }

    /// How much a group holds pending, and the oldest of it.
    ///
    /// # Errors
    /// [`Kind::NoGroup`]; otherwise as Redis answers.
    pub async fn pending(&self, key: &str, group: &str) -> Result<PendingSummary> {
        let reply = self.command("XPENDING", vec![Arg::from(key), group.into()]).await?;
        let parts = reply.list()?;
        let count = parts.first().map_or(Ok(0), Reply::int)?;
        let oldest = match parts.get(1) {
            Some(oldest) => oldest.optional_text()?.map(str::parse).transpose()?,
            None => None,
        };
        Ok(PendingSummary { count: u64::try_from(count).unwrap_or(0), oldest })
    }

    /// Pending entries with `from ≤ id ≤ to` that were not delivered for `idle`, `count` at most.
    ///
    /// # Errors
    /// [`Kind::NoGroup`]; otherwise as Redis answers.
    pub async fn pending_entries(
        &self,
        key: &str,
        group: &str,
        idle: Duration,
        range: (EntryId, EntryId),
        count: u64,
    ) -> Result<Vec<PendingEntry>> {
        let mut args = vec![Arg::from(key), group.into()];
        if !idle.is_zero() {
            args.extend([Arg::from("IDLE"), millis(idle).into()]);
        }
        args.extend([Arg::from(range.0.to_string()), range.1.to_string().into(), count.into()]);
        self.command("XPENDING", args).await?.list()?.into_iter().map(pending_entry).collect()
    }
}

/// Names and values in turn, as `XINFO` gives them.
fn fields(reply: Reply) -> Result<impl Fn(&str) -> Result<Reply>> {
    let parts = reply.list()?;
    Ok(move |name: &str| {
        let found = parts.chunks_exact(2).find(|pair| pair[0].text().is_ok_and(|text| text == name));
        found
            .map(|pair| pair[1].clone())
            .ok_or_else(|| Error::new(Kind::Corrupt, format!("read an answer of Redis: no {name:?} in it")))
    })
}

fn group_info(reply: Reply) -> Result<GroupInfo> {
    let field = fields(reply)?;
    Ok(GroupInfo {
        name: field("name")?.text()?.to_owned(),
        pending: u64::try_from(field("pending")?.int()?).unwrap_or(0),
        last_delivered: field("last-delivered-id")?.text()?.parse()?,
        // Since Redis 7.0.
        lag: field("lag").ok().and_then(|lag| lag.int().ok()).and_then(|lag| u64::try_from(lag).ok()),
    })
}

fn consumer_info(reply: Reply) -> Result<ConsumerInfo> {
    let field = fields(reply)?;
    Ok(ConsumerInfo {
        name: field("name")?.text()?.to_owned(),
        pending: u64::try_from(field("pending")?.int()?).unwrap_or(0),
        idle_ms: u64::try_from(field("idle")?.int()?).unwrap_or(0),
    })
}

fn pending_entry(reply: Reply) -> Result<PendingEntry> {
    let parts = reply.list()?;
    let part = |at: usize| parts.get(at).cloned().unwrap_or(Reply::Nil);
    Ok(PendingEntry {
        id: part(0).text()?.parse()?,
        consumer: part(1).text()?.to_owned(),
        idle_ms: u64::try_from(part(2).int()?).unwrap_or(0),
        deliveries: u64::try_from(part(3).int()?).unwrap_or(0),
    })
}
