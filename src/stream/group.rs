//! Consumer groups: reading, claiming, counting, acknowledging.
//!
//! Every function works on any stream: the log, the requests to the replay workers, the copies
//! that are delivered again.
//!
//! **Invariant:** nothing here throws pending entries away: a group is made, never remade, and a
//! consumer is removed only if it has nothing pending.

use std::time::Duration;

use fred::interfaces::StreamsInterface as _;
use fred::prelude::Client;
use fred::types::Key;
use fred::types::streams::XID;

use super::call::Call;
use super::failure::failed;
use super::log::{raw_entries, streams};
use super::script::{Words, script};
use super::{Arg, RawEntry, Reader, Redis, Reply, Script};
use crate::error::Result;
use crate::model::{EntryId, PartitionId};

/// How idle a handed-back entry is said to be, so that tools which claim by idle time take it at once.
const HANDED_BACK_IDLE_MS: u64 = 3_600_000;

/// Removes consumers that have nothing pending, but the one that asks.
static TIDY_CONSUMERS: Script = Script::new("tidy consumers", include_str!("lua/tidy_consumers.lua"));
/// Acknowledges, and moves the checkpoint, if the lease is still ours.
static SETTLE: Script = script!("settle entries", "settle.lua");
/// Removes a group that nobody owns.
static FORGET_GROUP: Script = Script::new("remove a group", include_str!("lua/forget_group.lua"));

/// Has a group read again, if the lease is still ours.
static MOVE_BACK: Script = script!("move a group back", "move_back.lua");

/// Makes a group of a log.
static CREATE_GROUP: Script = script!("make a group", "create_group.lua");

/// One page of what was taken over from other consumers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Where the next page begins; nothing if this was the last.
    pub next: Option<EntryId>,
    /// The entries, in order of their ids.
    pub entries: Vec<RawEntry>,
    /// Ids that were pending and are gone from the stream: a trim destroyed them.
    pub destroyed: Vec<EntryId>,
}

/// How [`Redis::settle`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledged {
    /// So many were pending and are not any more.
    Acked(u64),
    /// The lease is not ours: nothing was done.
    NotOurs,
}

/// How [`Redis::move_back`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MovedBack {
    /// It reads again what comes after that entry.
    Moved,
    /// It did not stand further on.
    Stood,
    /// The lease is not ours: nothing was done.
    NotOurs,
}

/// A stream, a group on it, and who speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupStream {
    /// Key of the stream.
    pub key: String,
    /// The group.
    pub group: String,
    /// The consumer: the worker.
    pub consumer: String,
}

/// What [`Redis::settle`] is to do.
#[derive(Debug, Clone)]
pub struct Settlement<'a> {
    /// Where.
    pub stream: &'a GroupStream,
    /// The partition, for the names of the keys.
    pub partition: PartitionId,
    /// The token of the lease.
    pub token: u64,
    /// What to acknowledge.
    pub ids: &'a [EntryId],
    /// The new checkpoint, if the stream has one.
    pub checkpoint: Option<EntryId>,
    /// Up to which entry the owner was given everything, if the stream has a checkpoint.
    pub delivered: Option<EntryId>,
    /// What becomes of them.
    pub spent: Spent,
}

/// What becomes of acknowledged entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// They stay: others read this stream too.
    Keep,
    /// They go, because nobody else reads this stream.
    Delete,
    /// They go, and so does the stream with the last of them.
    DeleteStream,
}

impl Redis {
    /// Makes a group that begins after `after`, and its stream. `false`: it was there already.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn create_group(&self, key: &str, group: &str, after: EntryId) -> Result<bool> {
        self.create_group_on(key, group, after, true).await
    }

    /// As [`Redis::create_group`] on the log of a partition. One that was deleted is made anew as not
    /// initialised, so that the archive worker fills it.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn create_log_group(&self, p: PartitionId, group: &str, after: EntryId) -> Result<bool> {
        let keys = vec![self.keys().epoch(p), self.keys().log(p), self.keys().seq(p)];
        Ok(CREATE_GROUP.run(self, keys, vec![Arg::from(group), after.to_string().into()]).await?.int()? == 1)
    }

    /// As [`Redis::create_group`], unless the stream doesn't exist: that is left so.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn create_group_if_stream(&self, key: &str, group: &str, after: EntryId) -> Result<bool> {
        self.create_group_on(key, group, after, false).await
    }

    async fn create_group_on(&self, key: &str, group: &str, after: EntryId, make_stream: bool) -> Result<bool> {
        let after = after.to_string();
        let mut args = vec!["CREATE", key, group, after.as_str()];
        args.extend(make_stream.then_some("MKSTREAM"));
        match self.send(Call::new("XGROUP", args)?).await {
            Ok(_) => Ok(true),
            Err(error) if error.details().starts_with("BUSYGROUP") => Ok(false),
            Err(error) if !make_stream && is_missing(&error) => Ok(false),
            Err(error) => Err(failed("make a group", error)),
        }
    }

    /// Makes one page of what the group holds pending from `from` on ours, whoever had it and however
    /// recently: the caller holds the lease. Counts as a delivery of each.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup); otherwise as Redis answers. Repeating is harmless but for the counts.
    pub async fn claim_page(&self, stream: &GroupStream, from: EntryId, count: u64) -> Result<Claimed> {
        let args = vec![
            Arg::from(stream.key.as_str()),
            stream.group.as_str().into(),
            stream.consumer.as_str().into(),
            0_u64.into(),
            from.to_string().into(),
            "COUNT".into(),
            count.into(),
        ];
        claimed(self.command("XAUTOCLAIM", args).await?)
    }

    /// Delivers these pending entries again, to us, as their `deliveries`-th time. Those that are not in
    /// the answer are gone from the stream or were not pending.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup); otherwise as Redis answers.
    pub async fn claim(&self, stream: &GroupStream, ids: &[EntryId], deliveries: u64) -> Result<Vec<RawEntry>> {
        // Without FORCE: an entry that was acknowledged meanwhile stays so.
        let mut args = claim_args(stream, ids);
        args.extend([Arg::from("RETRYCOUNT"), deliveries.into()]);
        let entries = raw_entries(self.command("XCLAIM", args).await?)?;
        // Redis 6.2 answers an entry that was trimmed without its fields.
        Ok(entries.into_iter().filter(|entry| !entry.fields.is_empty()).collect())
    }

    /// Gives pending entries back unseen: the next owner takes them at once, and `deliveries` is what
    /// they count from.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup); otherwise as Redis answers.
    pub async fn hand_back(&self, stream: &GroupStream, ids: &[EntryId], deliveries: u64) -> Result<()> {
        let mut args = claim_args(stream, ids);
        args.extend([Arg::from("IDLE"), HANDED_BACK_IDLE_MS.into()]);
        args.extend([Arg::from("RETRYCOUNT"), deliveries.into(), "JUSTID".into()]);
        self.command("XCLAIM", args).await.map(|_| ())
    }

    /// Entries after those that were delivered, without waiting; with `after`, what is pending under
    /// our own name after that id instead.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup); otherwise as Redis answers.
    pub async fn read_group(&self, stream: &GroupStream, after: Option<EntryId>, count: u64) -> Result<Vec<RawEntry>> {
        let from = after.map_or_else(|| ">".to_owned(), |id| id.to_string());
        let call = read_call(&stream.group, &stream.consumer, count, [(stream.key.as_str(), from.as_str())])?;
        let value = self.send(call).await.map_err(|e| failed("read as a group", e))?.value;
        Ok(streams(Reply::from_fred(value))?.into_iter().flat_map(|(_, entries)| entries).collect())
    }

    /// Acknowledges entries and moves the checkpoint in one step, if the lease is still ours.
    /// Harmless when repeated.
    ///
    /// # Errors
    /// As Redis answers; a group that is gone is no error (there is nothing to acknowledge).
    pub async fn settle(&self, settlement: &Settlement<'_>) -> Result<Acknowledged> {
        let acked = SETTLE.run_words(self, || self.settle_words(settlement)).await?.int()?;
        Ok(u64::try_from(acked).map_or(Acknowledged::NotOurs, Acknowledged::Acked))
    }

    fn settle_words(&self, settlement: &Settlement<'_>) -> Words {
        let (stream, p) = (settlement.stream, settlement.partition);
        let keys = vec![
            self.keys().lease(&stream.group, p),
            stream.key.clone(),
            self.keys().checkpoint(p),
            self.keys().delivered(p),
        ];
        let text = |id: Option<EntryId>| Arg::from(id.map(|id| id.to_string()).unwrap_or_default());
        let mut args = vec![
            Arg::from(super::lease::value_prefix(settlement.token)),
            stream.group.as_str().into(),
            text(settlement.checkpoint),
            (settlement.spent as u64).into(),
            text(settlement.delivered),
        ];
        args.extend(settlement.ids.iter().map(|id| Arg::from(id.to_string())));
        (keys, args)
    }

    /// Has the group read again what comes after `to`, if it stands further on and the lease is ours.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup); otherwise as Redis answers. Harmless when repeated.
    pub async fn move_back(&self, p: PartitionId, token: u64, stream: &GroupStream, to: EntryId) -> Result<MovedBack> {
        let keys = vec![self.keys().lease(&stream.group, p), stream.key.clone()];
        let args =
            vec![Arg::from(super::lease::value_prefix(token)), stream.group.as_str().into(), to.to_string().into()];
        Ok(match MOVE_BACK.run(self, keys, args).await?.int()? {
            0 => MovedBack::Stood,
            1 => MovedBack::Moved,
            _ => MovedBack::NotOurs,
        })
    }

    /// Up to which entry of the log of `p` the owners of a group were given everything; `now` if that
    /// was not noted before, which is done.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn delivered(&self, p: PartitionId, group: &str, now: EntryId) -> Result<EntryId> {
        let key = self.keys().delivered(p);
        self.command("HSETNX", vec![Arg::from(key.as_str()), group.into(), now.to_string().into()]).await?;
        let noted = self.command("HGET", vec![Arg::from(key), group.into()]).await?;
        noted.optional_text()?.map_or(Ok(now), str::parse)
    }

    /// Removes the group's consumers that have nothing pending, other than ours; says how many.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn tidy_consumers(&self, stream: &GroupStream) -> Result<u64> {
        let args = vec![Arg::from(stream.group.as_str()), stream.consumer.as_str().into()];
        let removed = TIDY_CONSUMERS.run(self, vec![stream.key.clone()], args).await?.int()?;
        Ok(u64::try_from(removed).unwrap_or(0))
    }

    /// Up to which entry of the log of `p` a group has settled everything, as its owner wrote it last.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn checkpoint(&self, p: PartitionId, group: &str) -> Result<Option<EntryId>> {
        let reply = self.command("HGET", vec![Arg::from(self.keys().checkpoint(p)), group.into()]).await?;
        reply.optional_text()?.map(str::parse).transpose()
    }

    /// The checkpoints of all groups in `p`.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn checkpoints(&self, p: PartitionId) -> Result<Vec<(String, EntryId)>> {
        let mut parts = self.command("HGETALL", vec![self.keys().checkpoint(p)]).await?.list()?.into_iter();
        let mut found = Vec::new();
        while let (Some(group), Some(id)) = (parts.next(), parts.next()) {
            found.push((group.text()?.to_owned(), id.text()?.parse()?));
        }
        Ok(found)
    }

    /// Removes a group of the log for good, with its copies and what it is owed: it stops holding the log
    /// back from being trimmed. `false`: a worker owns it, and nothing was done.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn forget_group(&self, p: PartitionId, group: &str) -> Result<bool> {
        let keys = self.keys();
        let keys = vec![
            keys.lease(group, p),
            keys.log(p),
            keys.checkpoint(p),
            keys.owed(p),
            keys.redeliver(p, group),
            keys.attempts(p, group),
            keys.delivered(p),
        ];
        Ok(FORGET_GROUP.run(self, keys, vec![group.into()]).await?.int()? == 1)
    }
}

impl Reader {
    /// See [`GroupReader::read_group`](super::GroupReader::read_group).
    pub(super) async fn read_group(
        &mut self,
        group: &str,
        consumer: &str,
        keys: &[String],
        count: u64,
        block: Duration,
    ) -> Result<Vec<(String, Vec<RawEntry>)>> {
        let instead = read_call(group, consumer, count, keys.iter().map(|key| (key.as_str(), ">")))?;
        let ids: Vec<XID> = keys.iter().map(|_| XID::NewInGroup).collect();
        let keys: Vec<Key> = keys.iter().map(|key| Key::from(key.as_str())).collect();
        let block = Some(millis(block).max(1));
        let read =
            async |client: Client| client.xreadgroup(group, consumer, Some(count), block, false, keys, ids).await;
        let value = self.read_streams(instead, read).await.map_err(|e| failed("read as a group", e))?;
        streams(Reply::from_fred(value))
    }
}

fn read_call<'a>(
    group: &str,
    consumer: &str,
    count: u64,
    after: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Call> {
    let mut args = vec![Arg::from("GROUP"), group.into(), consumer.into(), "COUNT".into(), count.into()];
    let (keys, ids): (Vec<_>, Vec<_>) = after.into_iter().unzip();
    args.push("STREAMS".into());
    args.extend(keys.into_iter().chain(ids).map(Arg::from));
    Call::new("XREADGROUP", args)
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn is_missing(error: &fred::error::Error) -> bool {
    // Source: Redis' shared.nokeyerr, and the text of XGROUP for a stream that isn't there.
    error.details().contains("no such key") || error.details().contains("requires the key to exist")
}

fn claim_args(stream: &GroupStream, ids: &[EntryId]) -> Vec<Arg> {
    let mut args = vec![
        Arg::from(stream.key.as_str()),
        stream.group.as_str().into(),
        stream.consumer.as_str().into(),
        0_u64.into(),
    ];
    args.extend(ids.iter().map(|id| Arg::from(id.to_string())));
    args
}

fn claimed(reply: Reply) -> Result<Claimed> {
    let mut parts = reply.list()?.into_iter();
    let next: EntryId = parts.next().unwrap_or(Reply::Nil).text()?.parse()?;
    let entries = raw_entries(parts.next().unwrap_or(Reply::Nil))?;
    let destroyed = parts.next().unwrap_or(Reply::Nil).list()?;
    let destroyed = destroyed.iter().map(|id| id.text()?.parse()).collect::<Result<_>>()?;
    Ok(Claimed { next: (next != EntryId::ZERO).then_some(next), entries, destroyed })
}
