//! What was read of logs a moment ago, as the bytes that came.
//!
//! **Invariant:** a range holds all entries that the log had from its first id to its last one, when it was read.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fred::error::Error;

use super::resp::{Found, Shown, next_entry};
use super::scan::{KEPT_FOR, LogEntry};
use crate::model::EntryId;

/// Bytes that are kept at most.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// A part of a log, as it was read.
#[derive(Debug, Clone)]
pub(super) struct ReadRange {
    pub(super) key: String,
    /// From here on it was read.
    pub(super) first: EntryId,
    /// Its last entry.
    pub(super) last: EntryId,
    /// Its entries, one behind the other.
    pub(super) answer: Bytes,
    pub(super) read: Instant,
}

/// The ranges that were read a moment ago, the newest last.
#[derive(Debug, Default)]
pub(super) struct Ranges(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    ranges: VecDeque<ReadRange>,
    /// The epoch of each log when that was last looked up.
    epochs: HashMap<String, Option<String>>,
    bytes: usize,
}

impl Ranges {
    /// The newest range that holds the entries of a log from `from` on.
    pub(super) fn find(&self, key: &str, from: EntryId) -> Option<ReadRange> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.forget_old();
        let holds = |range: &&ReadRange| range.key == key && (range.first..=range.last).contains(&from);
        kept.ranges.iter().rev().find(holds).cloned()
    }

    /// The log is known to have this epoch, and to end at `end`: what was read beyond that, or of another epoch, is of
    /// another history.
    pub(super) fn is_now(&self, key: &str, epoch: Option<&str>, end: EntryId) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = kept.epochs.get(key).is_some_and(|before| before.as_deref() == epoch);
        if !is_same {
            kept.epochs.insert(key.to_owned(), epoch.map(str::to_owned));
        }
        kept.ranges.retain(|range| range.key != key || (is_same && range.last <= end));
        kept.bytes = kept.ranges.iter().map(|range| range.answer.len()).sum();
    }

    /// Keeps nothing any more.
    pub(super) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Kept::default();
    }

    /// Keeps a range for a moment.
    pub(super) fn keep(&self, range: ReadRange) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += range.answer.len();
        kept.ranges.push_back(range);
        while kept.bytes > KEPT_BYTES_MAX {
            kept.forget_one();
        }
    }
}

impl Kept {
    fn forget_old(&mut self) {
        while self.ranges.front().is_some_and(|range| range.read.elapsed() >= KEPT_FOR) {
            self.forget_one();
        }
    }

    fn forget_one(&mut self) {
        self.bytes -= self.ranges.pop_front().map_or(0, |range| range.answer.len());
    }
}

impl ReadRange {
    /// Shows the entries from `from` on, `count` at most.
    pub(super) fn show(&self, from: EntryId, count: u64, mut show: impl FnMut(&LogEntry<'_>)) -> Result<(), Error> {
        let (mut at, mut left) = (0, count);
        while left > 0
            && let Found::Entry(Shown { entry, len }) = next_entry(&self.answer[at..])?
        {
            at += len;
            if entry.id >= from {
                show(&entry);
                left -= 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, last: u64) -> ReadRange {
        let entry = |n: u64| {
            let id = format!("1-{n}");
            format!("*2\r\n${}\r\n{id}\r\n*2\r\n$1\r\ne\r\n$1\r\nx\r\n", id.len())
        };
        let answer: String = (first..=last).map(entry).collect();
        let (first, last) = (EntryId::new(1, first), EntryId::new(1, last));
        ReadRange { key: "log".into(), first, last, answer: answer.into_bytes().into(), read: Instant::now() }
    }

    fn shown(ranges: &Ranges, key: &str, from: u64, count: u64) -> Vec<u64> {
        let mut ids = Vec::new();
        if let Some(range) = ranges.find(key, EntryId::new(1, from)) {
            range.show(EntryId::new(1, from), count, |entry| ids.push(entry.id.n)).unwrap();
        }
        ids
    }

    #[test]
    fn who_begins_within_a_range_is_shown_the_rest_of_it() {
        let ranges = Ranges::default();
        ranges.keep(range(5, 9));
        assert_eq!(shown(&ranges, "log", 5, 10), [5, 6, 7, 8, 9]);
        assert_eq!(shown(&ranges, "log", 8, 10), [8, 9]);
        assert_eq!(shown(&ranges, "log", 6, 2), [6, 7]);
        assert!(shown(&ranges, "log", 4, 10).is_empty() && shown(&ranges, "log", 10, 10).is_empty());
        assert!(shown(&ranges, "other", 5, 10).is_empty());
    }

    /// A Redis that came back without its last writes must not be read as if it had them.
    #[test]
    fn a_log_that_has_lost_its_end_is_read_anew() {
        let ranges = Ranges::default();
        ranges.is_now("log", Some("e"), EntryId::new(1, 4));
        ranges.keep(range(5, 9));
        ranges.is_now("log", Some("e"), EntryId::new(1, 9));
        assert_eq!(shown(&ranges, "log", 5, 1), [5]);
        ranges.is_now("log", Some("e"), EntryId::new(1, 8));
        assert!(shown(&ranges, "log", 5, 1).is_empty());
        ranges.keep(range(5, 9));
        ranges.is_now("log", Some("f"), EntryId::new(1, 10));
        assert!(shown(&ranges, "log", 5, 1).is_empty(), "another epoch");
        ranges.keep(range(5, 9));
        ranges.forget();
        assert!(shown(&ranges, "log", 5, 1).is_empty());
    }

    #[test]
    fn what_is_kept_is_bounded_in_bytes_and_time() {
        let ranges = Ranges::default();
        for first in 0..3 {
            ranges.keep(ReadRange { answer: vec![0; KEPT_BYTES_MAX / 2].into(), ..range(first * 10, first * 10 + 9) });
        }
        assert!(ranges.find("log", EntryId::new(1, 5)).is_none() && ranges.find("log", EntryId::new(1, 15)).is_some());
        ranges.keep(ReadRange { read: Instant::now() - KEPT_FOR, ..range(90, 99) });
        let held = ranges.0.lock().unwrap().bytes;
        assert!(held <= KEPT_BYTES_MAX);
    }
}
