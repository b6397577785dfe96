//! The log of a partition: ranges, ends, length, trimming.

use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::StreamsInterface as _;
use fred::prelude::Client;
use fred::types::Key;
use fred::types::streams::XID;

use super::call::Call;
use super::failure::failed;
use super::script::script;
use super::{Arg, Reader, Redis, Reply, Script};
use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, EntryKind, PartitionId, Room};

/// The epoch, unless the log was deleted.
static EPOCH: Script = script!("read the epoch of a partition", "epoch.lua");

/// An entry of a stream as Redis gives it: its id, and fields with their values in turn.
/// No fields: the entry was deleted or trimmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// Its id.
    pub id: EntryId,
    /// Names and values in turn.
    pub fields: Vec<(Bytes, Bytes)>,
}

impl RawEntry {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&Bytes> {
        self.fields.iter().find_map(|(key, value)| (&key[..] == name.as_bytes()).then_some(value))
    }

    /// The value of a field as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.field(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// Reads it as an entry of the log. The envelope is still a slice of the connection's buffer.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if a field is missing or malformed.
    pub fn into_entry(self) -> Result<Entry> {
        self.entry()
    }

    /// As [`RawEntry::into_entry`], for who keeps it as well.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if a field is missing or malformed.
    pub fn entry(&self) -> Result<Entry> {
        let corrupt = |what: &str| Error::new(Kind::Corrupt, format!("read entry {} of the log: {what}", self.id));
        let room = self.text("r").ok_or_else(|| corrupt("no room"))?;
        let room = Room::new(room).map_err(|_| corrupt("its room has no valid name"))?;
        let seq = self.text("s").and_then(|seq| seq.parse().ok()).ok_or_else(|| corrupt("no seq"))?;
        let kind = match self.text("k") {
            Some("m") => EntryKind::Message,
            Some("e") => EntryKind::Event,
            _ => return Err(corrupt("no kind")),
        };
        let envelope = self.field("e").cloned().ok_or_else(|| corrupt("no envelope"))?;
        Ok(Entry { id: self.id, room, seq, kind, envelope })
    }
}

pub(super) fn raw_entries(reply: Reply) -> Result<Vec<RawEntry>> {
    reply.list()?.into_iter().filter(|item| !item.is_nil()).map(raw_entry).collect()
}

fn raw_entry(reply: Reply) -> Result<RawEntry> {
    let mut parts = reply.list()?.into_iter();
    let id = parts.next().unwrap_or(Reply::Nil).text()?.parse()?;
    let mut values = parts.next().unwrap_or(Reply::Nil).list()?.into_iter();
    let mut fields = Vec::with_capacity(values.len() / 2);
    while let (Some(Reply::Bytes(name)), Some(Reply::Bytes(value))) = (values.next(), values.next()) {
        fields.push((name, value));
    }
    Ok(RawEntry { id, fields })
}

impl Redis {
    /// Entries of any stream with `from ≤ id ≤ to`, oldest first, `count` at most.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn range(&self, key: &str, from: EntryId, to: EntryId, count: u64) -> Result<Vec<RawEntry>> {
        self.page("XRANGE", key, from, to, count).await
    }

    /// Entries of any stream with `from ≤ id ≤ to`, newest first, `count` at most.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn range_back(&self, key: &str, to: EntryId, from: EntryId, count: u64) -> Result<Vec<RawEntry>> {
        self.page("XREVRANGE", key, to, from, count).await
    }

    pub(super) async fn page(
        &self,
        command: &'static str,
        key: &str,
        first: EntryId,
        last: EntryId,
        count: u64,
    ) -> Result<Vec<RawEntry>> {
        let (first, last, count) = (first.to_string(), last.to_string(), count.to_string());
        let call = Call::new(command, vec![key, &first, &last, "COUNT", &count])?;
        let answer = self.send(call).await.map_err(|e| failed("read a range of a stream", e))?;
        raw_entries(Reply::from_fred(answer.value))
    }

    /// The oldest entry that a stream holds.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn first_id(&self, key: &str) -> Result<Option<EntryId>> {
        Ok(self.range(key, EntryId::ZERO, EntryId::MAX, 1).await?.first().map(|entry| entry.id))
    }

    /// The newest entry that a stream holds.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn newest_id(&self, key: &str) -> Result<Option<EntryId>> {
        Ok(self.range_back(key, EntryId::MAX, EntryId::ZERO, 1).await?.first().map(|entry| entry.id))
    }

    /// How many entries a stream holds; 0 if it doesn't exist.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn length(&self, key: &str) -> Result<u64> {
        Ok(u64::try_from(self.command("XLEN", vec![key]).await?.int()?).unwrap_or(0))
    }

    /// The partition's incarnation, or nothing if it isn't initialised, or its log was deleted.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn epoch(&self, p: PartitionId) -> Result<Option<String>> {
        let keys = vec![self.keys().epoch(p), self.keys().log(p), self.keys().seq(p)];
        let reply = EPOCH.run(self, keys, Vec::new()).await?;
        Ok(reply.optional_text()?.map(str::to_owned))
    }
}

impl Reader {
    /// What came after each id in each of these streams, waiting up to `block` for the first.
    /// An empty answer means that the time was up.
    ///
    /// Dropping the future loses nothing but time: reading has no effect on Redis.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn read(
        &mut self,
        after: &[(String, EntryId)],
        count: u64,
        block: Duration,
    ) -> Result<Vec<(String, Vec<RawEntry>)>> {
        let mut args = vec![Arg::from("COUNT"), count.into(), "STREAMS".into()];
        args.extend(after.iter().map(|(key, _)| Arg::from(key.as_str())));
        args.extend(after.iter().map(|(_, id)| Arg::from(id.to_string())));
        let instead = Call::new("XREAD", args)?;
        let keys: Vec<Key> = after.iter().map(|(key, _)| Key::from(key.as_str())).collect();
        let ids: Vec<XID> = after.iter().map(|(_, id)| XID::Manual(id.to_string().into())).collect();
        let block = u64::try_from(block.as_millis()).unwrap_or(u64::MAX).max(1);
        let read = async |client: Client| client.xread(Some(count), Some(block), keys, ids).await;
        let value = self.read_streams(instead, read).await.map_err(|e| failed("tail the log", e))?;
        streams(Reply::from_fred(value))
    }
}

/// The answer of XREAD and XREADGROUP: per stream, its entries. Nil: the time was up.
/// RESP3 answers with a map, which [`Reply`] flattens; RESP2 with pairs.
pub(super) fn streams(reply: Reply) -> Result<Vec<(String, Vec<RawEntry>)>> {
    let mut found = Vec::new();
    for stream in reply.list()? {
        let mut parts = stream.list()?.into_iter();
        let key = parts.next().unwrap_or(Reply::Nil).text()?.to_owned();
        found.push((key, raw_entries(parts.next().unwrap_or(Reply::Nil))?));
    }
    Ok(found)
}
