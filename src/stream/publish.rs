//! The publish script: messages of one partition go into the log in one atomic step.
//!
//! **Invariant:** an answer is given only for what the script has written, or had written before.
//!
//! # Design
//! Many messages share one call, because the call itself is the larger part of its cost. A device's
//! memory is a string of fixed records (16 bytes of the cid's digest, 8 of the content's, the place),
//! searched by one `find`; the last 64 are always in it. Answers come back as one string.
//!
//! A send may be written long after it was repeated on a newer connection of its device: by an edge that
//! was frozen, or cut off from Redis. Its cid may be forgotten by then. So the memory begins with the
//! newest generation that has stored something, and what an older one still has to say is refused.

use std::time::Duration;

use bytes::Bytes;

use super::script::{Words, script};
use super::{Arg, Generation, Redis, Reply, Script};
use crate::error::{Error, Kind, Result};
use crate::fault::{self, Fault};
use crate::model::{Cursor, EntryId, PartitionId};

static PUBLISH: Script = script!("publish", "publish.lua");

/// Bytes of an answer: code, ms, n, seq.
const ANSWER_BYTES: usize = 25;

/// A message on its way into the log.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Its room.
    pub room: crate::model::Room,
    /// Who sends it.
    pub user: crate::model::UserId,
    /// From which device.
    pub device: crate::model::DeviceId,
    /// Of the connection that sent it.
    pub generation: Generation,
    /// Digest of the cid (16 bytes) and of room, kind, body and file (8 bytes).
    pub mark: [u8; 24],
    /// The envelope.
    pub envelope: Bytes,
}

/// An entry that was in the log of a partition, and its epoch then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The partition's incarnation.
    pub epoch: String,
    /// The entry.
    pub id: EntryId,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is in the log.
    Stored(Cursor),
    /// It had been in the log before: the first answer again.
    Known(Cursor),
    /// The device used this cid for something else.
    CidConflict,
    /// The room is closed.
    RoomClosed,
    /// A connection of the device with this newer generation has stored something: this send was repeated
    /// there if it still mattered, perhaps so long ago that nobody knows.
    Superseded(Generation),
}

impl Redis {
    /// Writes messages of one partition into its log, in order; one answer each.
    /// `memory_ms` is how long a device's memory lives after its last message.
    ///
    /// Gives the partition's epoch with the answers. `seen` are entries that the caller knows to
    /// be in the log, under the epochs in which they were: a log of such an epoch that ends before its entry has
    /// lost writes, and is not written to.
    ///
    /// # Errors
    /// [`Kind::NotInitialised`] without an epoch, or if the log has lost one of `seen`. After
    /// [`Kind::RedisUnavailable`] it is unclear whether the messages were written; publishing the same again
    /// finds out.
    pub async fn publish(
        &self,
        partition: PartitionId,
        messages: &[&Publish],
        memory_ms: u64,
        seen: &[Seen],
    ) -> Result<(String, Vec<Published>)> {
        let words = || self.publish_words(partition, messages, memory_ms, seen);
        answers(PUBLISH.run_words(self, words).await?, messages.len())
    }

    /// As [`Redis::publish`], and gives how many replicas have what the partition's server had written
    /// by then; so many are waited for, `within` at most. Source: Redis docs, WAIT.
    ///
    /// # Errors
    /// As [`Redis::publish`].
    pub async fn publish_replicated(
        &self,
        partition: PartitionId,
        messages: &[&Publish],
        memory_ms: u64,
        seen: &[Seen],
        replicas: (u32, Duration),
    ) -> Result<(u32, (String, Vec<Published>))> {
        let words = || self.publish_words(partition, messages, memory_ms, seen);
        let (reply, reached) = PUBLISH.run_replicated(self, words, replicas).await?;
        Ok((reached, answers(reply, messages.len())?))
    }

    fn publish_words(&self, partition: PartitionId, messages: &[&Publish], memory_ms: u64, seen: &[Seen]) -> Words {
        let names = self.keys();
        let mut keys = vec![
            names.epoch(partition),
            names.log(partition),
            names.seq(partition),
            names.head(partition),
            names.closed(partition),
        ];
        let mut devices: Vec<(&str, &str)> = Vec::new();
        let mut of_message = Vec::with_capacity(messages.len());
        for message in messages {
            let device = (message.user.as_str(), message.device.as_str());
            let index = devices.iter().rposition(|known| *known == device).unwrap_or_else(|| {
                devices.push(device);
                devices.len() - 1
            });
            of_message.push(index);
        }
        keys.extend(devices.iter().map(|(user, device)| names.dedup(partition, user, device)));
        let mut args = Vec::with_capacity(3 + devices.len() + 2 * seen.len() + 4 * messages.len());
        args.push(Arg::from(devices.len() as u64));
        args.push(Arg::from(memory_ms));
        args.push(Arg::from(seen.len() as u64));
        args.extend(devices.iter().map(|(user, _)| Arg::from(*user)));
        args.extend(seen.iter().flat_map(|seen| [Arg::from(seen.epoch.as_str()), seen.id.to_string().into()]));
        for (message, device) in messages.iter().zip(of_message) {
            args.push(Arg::from(device as u64 + 1));
            args.push(Arg::from(message.room.as_str()));
            let mark = if fault::active(Fault::NoDeduplication) { rand::random() } else { message.mark };
            args.push(Arg::from([&mark[..], &message.generation.0.to_be_bytes()].concat()));
            args.push(Arg::from(message.envelope.clone()));
        }
        (keys, args)
    }
}

fn answers(reply: Reply, expected: usize) -> Result<(String, Vec<Published>)> {
    let corrupt = || Error::new(Kind::Corrupt, "read the answer of the publish script");
    let mut parts = reply.list()?.into_iter();
    let epoch = parts.next().ok_or_else(corrupt)?.text()?.to_owned();
    let Some(Reply::Bytes(packed)) = parts.next() else { return Err(corrupt()) };
    if packed.len() != expected * ANSWER_BYTES {
        return Err(corrupt());
    }
    let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    let published = packed.chunks_exact(ANSWER_BYTES).map(|answer| {
        let place = Cursor::new(EntryId::new(number(&answer[1..9]), number(&answer[9..17])), number(&answer[17..25]));
        match answer[0] {
            0 => Ok(Published::Stored(place)),
            1 => Ok(Published::Known(place)),
            2 => Ok(Published::CidConflict),
            3 => Ok(Published::RoomClosed),
            4 => Ok(Published::Superseded(Generation(place.id.ms))),
            _ => Err(corrupt()),
        }
    });
    Ok((epoch, published.collect::<Result<_>>()?))
}
