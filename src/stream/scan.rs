//! Ranges of a stream, each entry looked at where it lies: nothing is built for those that nobody wants.
//!
//! # Design
//! A partition's log is read for the sake of a few of its rooms. fred makes a tree of some twenty values of
//! every entry, and begins an answer that came in part from its start, which was most of what a catch-up
//! cost. Here an entry is found in the bytes as they come, once. So these reads have plain connections of their
//! own; to a cluster, or over TLS, they go through fred like everything else.
//!
//! Requests of a storm come one after the other and read the same: so what was read counts for a second, as the
//! bytes that came (their memory, 8 MiB at most, is given back by the next request), and who begins within it is
//! shown that first. It is as if they had asked a second ago; the end of a log is always asked for. A connection is
//! kept as long, not longer: a reader must not stay with a server from which everybody else has moved on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::error::Error as FredError;
use fred::types::config::Config;

use super::failure::failed;
use super::log_tail::{self, LogTails};
use super::plain::{Connection, Server, within};
use super::ranges::{Ranges, ReadRange};
use super::resp::{Found, Shown, next_entry};
use super::{RawEntry, Redis};
use crate::config::RedisSettings;
use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, EntryKind, PartitionId, Room};

/// Connections that are kept: more reads than that seldom go on at the same time.
const KEPT_MAX: usize = 16;
/// How long an unused connection is kept, and what was read.
pub(super) const KEPT_FOR: Duration = Duration::from_secs(1);

/// What a scan has gone over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Entries.
    pub entries: u64,
    /// Bytes of their envelopes.
    pub bytes: usize,
    /// The first of them, in the direction of the scan.
    pub first: Option<EntryId>,
    /// The last of them.
    pub last: Option<EntryId>,
    /// Whether there was nothing after that.
    pub ended: bool,
}

/// An entry of the log while it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogEntry<'a> {
    pub(super) id: EntryId,
    pub(super) room: Option<&'a [u8]>,
    pub(super) seq: Option<&'a [u8]>,
    pub(super) kind: Option<&'a [u8]>,
    pub(super) envelope: Option<&'a [u8]>,
    /// Where the envelope lies, if that may be kept.
    pub(super) kept_in: Option<&'a Bytes>,
}

impl<'a> LogEntry<'a> {
    /// Its id.
    pub fn id(&self) -> EntryId {
        self.id
    }

    /// Its room, which nobody has checked yet.
    pub fn room(&self) -> Option<&'a str> {
        self.room.and_then(|room| std::str::from_utf8(room).ok())
    }

    /// Reads it as an entry of this room, which is its own, with an envelope of its own or in memory that is kept.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if a field is missing or malformed.
    pub fn entry_of(&self, room: &Room) -> Result<Entry> {
        let corrupt = |what: &str| Error::new(Kind::Corrupt, format!("read entry {} of the log: {what}", self.id));
        let seq = self.seq.and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
        let kind = match self.kind {
            Some(b"m") => EntryKind::Message,
            Some(b"e") => EntryKind::Event,
            _ => return Err(corrupt("no kind")),
        };
        let envelope = self.envelope.ok_or_else(|| corrupt("no envelope"))?;
        let envelope = self.kept_in.map_or_else(|| Bytes::copy_from_slice(envelope), |bytes| bytes.slice_ref(envelope));
        Ok(Entry { id: self.id, room: room.clone(), seq: seq.ok_or_else(|| corrupt("no seq"))?, kind, envelope })
    }

    /// Takes a field, if it is one of the log's.
    pub(super) fn set(&mut self, name: &[u8], value: &'a [u8]) {
        match name {
            b"r" => self.room = Some(value),
            b"s" => self.seq = Some(value),
            b"k" => self.kind = Some(value),
            b"e" => self.envelope = Some(value),
            _ => {}
        }
    }
}

impl Scanned {
    fn count(&mut self, entry: &LogEntry<'_>) {
        self.entries += 1;
        self.bytes += entry.envelope.map_or(0, <[u8]>::len);
        self.first = self.first.or(Some(entry.id));
        self.last = Some(entry.id);
    }
}

/// How logs are scanned.
pub(super) struct Scans {
    /// Nothing: scans go through fred.
    plain: Option<Plain>,
    tails: LogTails,
    /// Bytes of an entry on the average of the last read.
    entry_bytes: AtomicU64,
}

/// Plain connections to one server.
struct Plain {
    server: Server,
    kept: Mutex<Vec<(Connection, Instant)>>,
    ranges: Ranges,
}

impl Redis {
    /// Shows the entries of a log with `from ≤ id`, oldest first, `count` at most. After an error some of them may
    /// have been shown.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn scan(
        &self,
        key: &str,
        from: EntryId,
        count: u64,
        show: impl FnMut(&LogEntry<'_>) + Send,
    ) -> Result<Scanned> {
        self.scan_with("XRANGE", key, (from, EntryId::MAX), count, show).await
    }

    /// Shows the entries of a log with `from ≤ id ≤ to`, newest first, `count` at most. After an error some of them
    /// may have been shown.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn scan_back(
        &self,
        key: &str,
        to: EntryId,
        from: EntryId,
        count: u64,
        show: impl FnMut(&LogEntry<'_>) + Send,
    ) -> Result<Scanned> {
        self.scan_with("XREVRANGE", key, (to, from), count, show).await
    }

    /// Keeps what was read of a partition's log after `after`, as all that there was up to the last of it, `bytes_max` bytes
    /// at most: a scan by this handle finds it without asking Redis. The epoch is one that was found before the reading.
    pub fn keep_tail(&self, p: PartitionId, epoch: &str, after: EntryId, entries: &[RawEntry], bytes_max: usize) {
        self.scans().tails.extend(&self.keys().log(p), epoch, after, entries, bytes_max);
    }

    /// Keeps nothing any more of what was read of logs: the server that will be read from may not have it.
    pub fn forget_tails(&self) {
        self.scans().tails.forget();
        if let Some(plain) = &self.scans().plain {
            plain.ranges.forget();
        }
    }

    /// Bytes of an entry, on the average of the last scan by this handle; 0: none yet.
    pub fn entry_bytes(&self) -> u64 {
        self.scans().entry_bytes.load(Ordering::Relaxed)
    }

    async fn scan_with(
        &self,
        command: &'static str,
        key: &str,
        (first, last): (EntryId, EntryId),
        count: u64,
        mut show: impl FnMut(&LogEntry<'_>) + Send,
    ) -> Result<Scanned> {
        let mut scanned = Scanned::default();
        let mut count_and_show = |entry: &LogEntry<'_>| {
            scanned.count(entry);
            show(entry);
        };
        let forwards = command == "XRANGE";
        if let Some(pieces) = self.scans().tails.find(key, first, count).filter(|_| forwards) {
            log_tail::show(&pieces, first, count, count_and_show);
            // Nothing was waited for, and others wait.
            tokio::task::yield_now().await;
            return Ok(scanned);
        }
        let Some(plain) = &self.scans().plain else {
            self.page(command, key, first, last, count).await?.iter().for_each(|raw| count_and_show(&shown(raw)));
            scanned.ended = scanned.entries < count;
            return Ok(scanned);
        };
        if let Some(range) = plain.ranges.find(key, first).filter(|_| forwards) {
            range.show(first, count, count_and_show).map_err(|e| failed("scan a log", e))?;
            return Ok(scanned);
        }
        let words = [command, key, &first.to_string(), &last.to_string(), "COUNT", &count.to_string()];
        let answer = plain.scan(&words, count_and_show).await.map_err(|e| failed("scan a log", e))?;
        scanned.ended = scanned.entries < count;
        if let Some(each) = (scanned.bytes as u64).checked_div(scanned.entries) {
            self.scans().entry_bytes.store(each, Ordering::Relaxed);
        }
        if let Some(last) = scanned.last.filter(|_| forwards) {
            plain.ranges.keep(ReadRange { key: key.to_owned(), first, last, answer, read: Instant::now() });
        }
        Ok(scanned)
    }
}

pub(super) fn shown(raw: &RawEntry) -> LogEntry<'_> {
    let mut entry = LogEntry { id: raw.id, ..LogEntry::default() };
    raw.fields.iter().for_each(|(name, value)| entry.set(name, value));
    entry
}

impl Scans {
    /// Those to the server of these settings; none to a cluster, or over TLS.
    pub(super) fn new(config: Config, settings: &RedisSettings) -> Self {
        let plain = |server| Plain { server, kept: Mutex::default(), ranges: Ranges::default() };
        let plain = Server::of(config, settings).map(plain);
        Self { plain, tails: LogTails::default(), entry_bytes: AtomicU64::default() }
    }
}

impl Scans {
    /// Up to where a log's end is kept in memory.
    pub(super) fn kept_upto(&self, key: &str) -> Option<EntryId> {
        self.tails.last(key)
    }

    /// A log is known to have this epoch, to end at `end`, and not to have the entry `lacks`.
    pub(super) fn log_is(&self, key: &str, epoch: Option<&str>, end: EntryId, lacks: Option<EntryId>) {
        self.tails.is_now(key, epoch, lacks);
        if let Some(plain) = &self.plain {
            plain.ranges.is_now(key, epoch, end);
        }
    }
}

impl Plain {
    /// Shows what comes, and gives the answer's entries as they came.
    async fn scan(&self, words: &[&str], show: impl FnMut(&LogEntry<'_>) + Send) -> Result<Bytes, FredError> {
        let mut connection = match self.take_kept() {
            Some(kept) => kept,
            None => self.server.connect().await?,
        };
        let answer = within(self.server.timeout(), scan(&mut connection, words, show)).await?;
        // One that failed, or whose answer was not read to its end, is not used again.
        let mut kept = self.kept();
        if kept.len() < KEPT_MAX {
            kept.push((connection, Instant::now()));
        }
        Ok(answer)
    }

    fn take_kept(&self) -> Option<Connection> {
        let mut kept = self.kept();
        kept.retain(|(_, since)| since.elapsed() < KEPT_FOR);
        kept.pop().map(|(connection, _)| connection)
    }

    fn kept(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        // Nothing panics while holding it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a range's command, shows what comes, and gives the answer's entries as they came.
async fn scan(
    connection: &mut Connection,
    words: &[&str],
    mut show: impl FnMut(&LogEntry<'_>),
) -> Result<Bytes, FredError> {
    let mut left = connection.ask(words).await?.unwrap_or(0);
    let mut at = 0;
    while left > 0 {
        match next_entry(&connection.come()[at..])? {
            Found::Entry(Shown { entry, len }) => {
                show(&entry);
                at += len;
                left -= 1;
            }
            Found::Part => connection.read().await?,
        }
    }
    Ok(connection.take(at))
}
