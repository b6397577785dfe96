//! The ends of logs, kept in memory by who tails them: what was read once is not read again for those who were away for a moment.
//!
//! **Invariant:** a piece holds every entry that its log had, under the tail's epoch, after its beginning and up to its last
//! one. A log of another epoch, or one that has not the tail's last entry, has another history: its tail is forgotten.
//!
//! # Design
//! Entries lie one behind the other in pieces that are dropped whole, oldest first. Where nobody read for a while a new tail
//! begins: that the log has a tail's last entry proves those before it only if they were read one after the other. Fields stand in a form of their own, with
//! lengths before them, so that looking at an entry costs no reading of numbers. An envelope that is taken out is a slice of
//! its piece: a catch-up of thousands copies nothing, and what waits for its connection keeps its pieces in memory.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf as _, BufMut as _, Bytes};

use super::RawEntry;
use super::scan::{LogEntry, shown};
use crate::model::EntryId;

/// Bytes of a piece, about.
const PIECE_BYTES: usize = 64 << 10;
/// In place of the length of a field that is missing.
const MISSING: u32 = u32::MAX;

/// The tails of some logs.
#[derive(Debug, Default)]
pub(super) struct LogTails(Mutex<HashMap<String, LogTail>>);

#[derive(Debug)]
struct LogTail {
    epoch: String,
    /// Up to here it was read.
    last: EntryId,
    /// Oldest first.
    pieces: VecDeque<Piece>,
    /// The newest piece, which still grows: after this it is complete.
    open_after: EntryId,
    open: Vec<u8>,
    open_entries: u64,
    bytes: usize,
}

/// Entries one behind the other.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    after: EntryId,
    last: EntryId,
    entries: u64,
    bytes: Bytes,
}

impl LogTails {
    /// Adds what was read of a log after `after`, as all that there was up to the last of it. The epoch is one that the log
    /// had before it was read. At most `bytes_max` are kept of one log.
    pub(super) fn extend(&self, key: &str, epoch: &str, after: EntryId, entries: &[RawEntry], bytes_max: usize) {
        if bytes_max == 0 || entries.is_empty() {
            return;
        }
        let mut tails = self.lock();
        let follows = |tail: &LogTail| tail.epoch == epoch && tail.last == after;
        let tail = match tails.get_mut(key).filter(|tail| follows(tail)) {
            Some(tail) => tail,
            None => tails.entry(key.to_owned()).insert_entry(LogTail::new(epoch, after)).into_mut(),
        };
        for raw in entries {
            tail.push(&shown(raw));
        }
        tail.shorten(bytes_max);
    }

    /// What a log has from `from` on, `count` entries or a few more, if its tail has the beginning of that.
    pub(super) fn find(&self, key: &str, from: EntryId, count: u64) -> Option<Vec<Piece>> {
        let tails = self.lock();
        let pieces = tails.get(key)?.pieces_from(from, count);
        (!pieces.is_empty()).then_some(pieces)
    }

    /// Up to where a log was read.
    pub(super) fn last(&self, key: &str) -> Option<EntryId> {
        self.lock().get(key).map(|tail| tail.last)
    }

    /// A log is known to have this epoch, and not to have the entry `lacks`.
    pub(super) fn is_now(&self, key: &str, epoch: Option<&str>, lacks: Option<EntryId>) {
        let mut tails = self.lock();
        let another = |tail: &LogTail| Some(tail.epoch.as_str()) != epoch || lacks.is_some();
        if tails.get(key).is_some_and(another) {
            tails.remove(key);
        }
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, LogTail>> {
        // No code that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogTail {
    fn new(epoch: &str, after: EntryId) -> Self {
        let (pieces, open, open_entries, bytes) = (VecDeque::new(), Vec::new(), 0, 0);
        Self { epoch: epoch.to_owned(), last: after, pieces, open_after: after, open, open_entries, bytes }
    }

    fn push(&mut self, entry: &LogEntry<'_>) {
        let before = self.open.len();
        put(&mut self.open, entry);
        self.bytes += self.open.len() - before;
        self.open_entries += 1;
        self.last = entry.id;
        if self.open.len() >= PIECE_BYTES {
            self.close();
        }
    }

    fn close(&mut self) {
        if self.open_entries > 0 {
            let (after, last) = (mem::replace(&mut self.open_after, self.last), self.last);
            // As long as it is: what has grown has room for twice as much.
            let bytes = Bytes::copy_from_slice(&self.open);
            self.open.clear();
            self.pieces.push_back(Piece { after, last, entries: mem::take(&mut self.open_entries), bytes });
        }
    }

    fn shorten(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.bytes -= oldest.bytes.len();
        }
    }

    /// The pieces that have the entries from `from` on, up to the next gap; none if `from` lies in one.
    fn pieces_from(&self, from: EntryId, count: u64) -> Vec<Piece> {
        let first = self.pieces.partition_point(|piece| piece.last < from);
        let (mut found, mut entries) = (Vec::<Piece>::new(), 0);
        let follows = |found: &[Piece], after: EntryId| found.last().map_or(after < from, |last| last.last == after);
        for piece in self.pieces.range(first..) {
            if entries >= count || !follows(&found, piece.after) {
                return found;
            }
            // Of the first piece the beginning may not be wanted.
            entries += if found.is_empty() { 0 } else { piece.entries };
            found.push(piece.clone());
        }
        if entries < count && self.open_entries > 0 && from <= self.last && follows(&found, self.open_after) {
            let bytes = Bytes::copy_from_slice(&self.open);
            let (after, last) = (self.open_after, self.last);
            found.push(Piece { after, last, entries: self.open_entries, bytes });
        }
        found
    }
}

/// Shows the entries of pieces from `from` on, `count` at most.
pub(super) fn show(pieces: &[Piece], from: EntryId, count: u64, mut show: impl FnMut(&LogEntry<'_>)) {
    let mut left = count;
    for piece in pieces {
        let mut rest = &piece.bytes[..];
        while left > 0 && !rest.is_empty() {
            let entry = take(&mut rest);
            if entry.id >= from {
                show(&LogEntry { kept_in: Some(&piece.bytes), ..entry });
                left -= 1;
            }
        }
    }
}

fn put(out: &mut Vec<u8>, entry: &LogEntry<'_>) {
    let fields = [entry.room, entry.seq, entry.kind, entry.envelope];
    out.put_u64_le(entry.id.ms);
    out.put_u64_le(entry.id.n);
    for field in fields {
        out.put_u32_le(field.map_or(MISSING, |field| u32::try_from(field.len()).unwrap_or(MISSING)));
    }
    for field in fields.into_iter().flatten() {
        out.put_slice(field);
    }
}

/// What [`put`] has put.
fn take<'a>(rest: &mut &'a [u8]) -> LogEntry<'a> {
    let id = EntryId::new(rest.get_u64_le(), rest.get_u64_le());
    let lengths = [rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le(), rest.get_u32_le()];
    let [room, seq, kind, envelope] = lengths.map(|length| {
        if length == MISSING {
            return None;
        }
        let (field, others) = rest.split_at(length as usize);
        *rest = others;
        Some(field)
    });
    LogEntry { id, room, seq, kind, envelope, kept_in: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES_MAX: usize = 10 * PIECE_BYTES;

    fn raw(n: u64) -> RawEntry {
        let field = |name: &'static str, value: Bytes| (Bytes::from_static(name.as_bytes()), value);
        let envelope = Bytes::from(vec![b'x'; 1_000]);
        let fields = vec![field("r", "room".into()), field("s", n.to_string().into()), field("e", envelope)];
        RawEntry { id: EntryId::new(1, n), fields }
    }

    fn id(n: u64) -> EntryId {
        EntryId::new(1, n)
    }

    fn extend(tails: &LogTails, epoch: &str, after: u64, upto: u64) {
        let entries: Vec<RawEntry> = (after + 1..=upto).map(raw).collect();
        tails.extend("log", epoch, id(after), &entries, BYTES_MAX);
    }

    fn held(tails: &LogTails, from: u64, count: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        let Some(pieces) = tails.find("log", id(from), count) else { return ids };
        show(&pieces, id(from), count, |entry| {
            assert_eq!((entry.room(), entry.kind, entry.envelope.map(<[u8]>::len)), (Some("room"), None, Some(1_000)));
            assert_eq!(entry.seq, Some(entry.id.n.to_string().as_bytes()));
            ids.push(entry.id.n);
        });
        ids
    }

    #[test]
    fn what_was_read_on_and_on_is_one_tail() {
        let tails = LogTails::default();
        extend(&tails, "e", 10, 100);
        extend(&tails, "e", 100, 300);
        assert_eq!(held(&tails, 11, 1_000), (11..=300).collect::<Vec<_>>());
        assert_eq!(held(&tails, 90, 20), (90..110).collect::<Vec<_>>());
        assert_eq!(held(&tails, 300, 20), [300]);
        assert!(held(&tails, 10, 20).is_empty() && held(&tails, 301, 20).is_empty());
        assert!(tails.find("other", id(20), 1).is_none());
    }

    /// Between what was read before and what was read now there may be something; and that the log has the last of it says
    /// nothing of what was read before.
    #[test]
    fn after_a_gap_another_tail_begins() {
        let tails = LogTails::default();
        extend(&tails, "e", 10, 20);
        extend(&tails, "e", 25, 30);
        assert!(held(&tails, 19, 9).is_empty() && held(&tails, 21, 1).is_empty() && held(&tails, 25, 1).is_empty());
        assert_eq!(held(&tails, 26, 9), [26, 27, 28, 29, 30]);
        // Read again from before: the log had lost its end.
        extend(&tails, "e", 27, 28);
        assert!(held(&tails, 26, 1).is_empty() && held(&tails, 29, 1).is_empty());
    }

    #[test]
    fn a_log_with_another_history_has_another_tail() {
        let tails = LogTails::default();
        let read = |before: u64| {
            extend(&tails, "e", before, before + 10);
            move |tails: &LogTails| !held(tails, before + 1, 1).is_empty()
        };
        let kept = read(0);
        tails.is_now("log", Some("e"), None);
        assert!(kept(&tails));
        tails.is_now("log", Some("e"), Some(id(10)));
        assert!(!kept(&tails), "it lacks the last entry");
        let kept = read(20);
        tails.is_now("log", Some("f"), None);
        assert!(!kept(&tails), "it has another epoch");
        let kept = read(40);
        tails.is_now("log", None, None);
        assert!(!kept(&tails), "it is not initialised");
        let kept = read(60);
        extend(&tails, "f", 70, 80);
        assert!(!kept(&tails), "it was read on under another epoch");
        assert_eq!(held(&tails, 71, 2), [71, 72]);
    }

    #[test]
    fn a_tail_is_bounded_and_loses_its_oldest() {
        let tails = LogTails::default();
        for after in (0..2_000).step_by(50) {
            extend(&tails, "e", after, after + 50);
            assert!(tails.lock()["log"].bytes <= BYTES_MAX);
        }
        assert!(held(&tails, 1_000, 1).is_empty());
        assert_eq!(held(&tails, 1_500, 1_000), (1_500..=2_000).collect::<Vec<_>>());
        tails.extend("none", "e", id(0), &[raw(1)], 0);
        assert!(tails.find("none", id(1), 1).is_none());
    }
}
