//! When a batch closes, and what is in it. Pure: the writer waits and writes.
//!
//! A batch closes by rows, by the age of its first row, by bytes, by a wish to flush, by a leaving
//! or when the worker stops. What is held beyond the rows of the settings is a backlog, and goes in
//! batches of up to `bulk_rows` at once, whatever the settings say of rows.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Settings;
use crate::group::Delivery;
use crate::model::{Entry, EntryId, EntryKind, EventName, Item};

/// What closed a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Cause {
    Rows,
    Delay,
    Bytes,
    Backlog,
    Flush,
    Leave,
    Stop,
}

impl Cause {
    pub(super) const ALL: [Self; 7] =
        [Self::Rows, Self::Delay, Self::Bytes, Self::Backlog, Self::Flush, Self::Leave, Self::Stop];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::Delay => "delay",
            Self::Bytes => "bytes",
            Self::Backlog => "backlog",
            Self::Flush => "flush",
            Self::Leave => "leave",
            Self::Stop => "stop",
        }
    }
}

/// What closes batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    pub(super) rows: usize,
    pub(super) delay: Duration,
    pub(super) bytes: usize,
    pub(super) bulk_rows: usize,
    pub(super) on_leave: bool,
}

impl Limits {
    pub(super) fn of(settings: &Settings) -> Self {
        let archive = &settings.archive;
        // The runner hands out no more than this, so a larger batch would only ever close by its age.
        let rows = archive.max_rows.min(settings.group.unsettled_entries).max(1);
        Self {
            rows,
            delay: *archive.max_delay,
            bytes: archive.max_bytes,
            bulk_rows: archive.bulk_rows.max(rows),
            on_leave: archive.flush_on_leave,
        }
    }
}

/// An entry that waits to be written.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) delivery: Delivery,
    /// Nothing if it can't be read at all.
    pub(super) entry: Option<Entry>,
    /// Why it is to be parked instead: a word of a closed set, and what was wrong.
    pub(super) bad: Option<(&'static str, String)>,
    pub(super) since: Instant,
    bytes: usize,
    leave: bool,
}

impl Held {
    fn new(delivery: Delivery, since: Instant) -> Self {
        let mut held = Self { delivery, entry: None, bad: None, since, bytes: 0, leave: false };
        match held.delivery.entry() {
            Ok(entry) => {
                held.bytes = entry.envelope.len();
                held.leave = is_leave(&entry);
                held.entry = Some(entry);
            }
            Err(error) => held.bad = Some(("corrupt", error.to_string())),
        }
        held
    }

    /// What there is to write.
    pub(super) fn row(&self) -> Option<&Entry> {
        if self.bad.is_some() { None } else { self.entry.as_ref() }
    }

    /// Its place in the log; nothing if it is delivered again on request.
    pub(super) fn place(&self) -> Option<EntryId> {
        self.delivery.replay_of.is_none().then_some(self.delivery.id)
    }
}

/// Whether a user's stay ends here. Messages stay closed until they are written, and so does what can't be opened.
fn is_leave(entry: &Entry) -> bool {
    entry.kind == EntryKind::Event
        && matches!(entry.open(), Ok(Item::Event(event)) if event.event == EventName::UserLeft.as_str())
}

/// What one partition's writer holds.
#[derive(Debug)]
pub(super) struct Gathering {
    limits: Limits,
    held: Vec<Held>,
    bytes: usize,
    leaves: usize,
}

impl Gathering {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, held: Vec::new(), bytes: 0, leaves: 0 }
    }

    pub(super) fn push(&mut self, batch: Vec<Delivery>, now: Instant) {
        for delivery in batch {
            let held = Held::new(delivery, now);
            self.bytes += held.bytes;
            self.leaves += usize::from(held.leave);
            self.held.push(held);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether taking more in now would only delay what is there.
    pub(super) fn is_full(&self) -> bool {
        self.held.len() >= self.limits.bulk_rows || self.bytes >= self.limits.bytes
    }

    /// When the first row grows too old; nothing if there is none.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.held.first().map(|first| first.since + self.limits.delay)
    }

    /// What closes the batch now, if anything does. `flush` is up to where it is wished for.
    pub(super) fn due(&self, now: Instant, flush: Option<EntryId>) -> Option<Cause> {
        let first = self.held.first()?;
        let wished = flush.is_some_and(|upto| first.place().is_none_or(|place| place <= upto));
        if self.bytes >= self.limits.bytes {
            Some(Cause::Bytes)
        } else if self.held.len() > self.limits.rows {
            Some(Cause::Backlog)
        } else if self.held.len() == self.limits.rows {
            Some(Cause::Rows)
        } else if wished {
            Some(Cause::Flush)
        } else if self.limits.on_leave && self.leaves > 0 {
            Some(Cause::Leave)
        } else {
            self.deadline().filter(|deadline| *deadline <= now).map(|_| Cause::Delay)
        }
    }

    /// Closes the batch: the oldest rows, up to `bulk_rows` and `max_bytes` of them (one always).
    pub(super) fn take(&mut self) -> Vec<Held> {
        let (mut rows, mut bytes) = (0, 0);
        for held in self.held.iter().take(self.limits.bulk_rows) {
            if rows > 0 && bytes + held.bytes > self.limits.bytes {
                break;
            }
            bytes += held.bytes;
            rows += 1;
        }
        let rest = self.held.split_off(rows);
        let taken = std::mem::replace(&mut self.held, rest);
        self.bytes -= bytes;
        self.leaves -= taken.iter().filter(|held| held.leave).count();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::deliveries;
    use super::*;
    use crate::store::testing::{event, message};

    const LIMITS: Limits =
        Limits { rows: 3, delay: Duration::from_secs(60), bytes: 1_000, bulk_rows: 5, on_leave: false };

    fn messages(range: std::ops::Range<u64>) -> Vec<Delivery> {
        deliveries(&range.map(|seq| message("r", seq, 0, seq, "1")).collect::<Vec<_>>())
    }

    fn gathered(limits: Limits, batch: Vec<Delivery>) -> (Gathering, Instant) {
        let now = Instant::now();
        let mut gathering = Gathering::new(limits);
        gathering.push(batch, now);
        (gathering, now)
    }

    #[test]
    fn rows_and_the_age_of_the_first_close_a_batch() {
        let (mut gathering, begin) = gathered(LIMITS, messages(1..3));
        assert_eq!(gathering.due(begin, None), None);
        assert_eq!(gathering.deadline(), Some(begin + LIMITS.delay));
        assert_eq!(gathering.due(begin + LIMITS.delay, None), Some(Cause::Delay));
        gathering.push(messages(3..4), begin + Duration::from_secs(1));
        assert_eq!(gathering.due(begin, None), Some(Cause::Rows));
        assert_eq!(gathering.take().len(), 3);
        assert_eq!((gathering.len(), gathering.deadline(), gathering.due(begin, None)), (0, None, None));
    }

    #[test]
    fn a_backlog_goes_in_larger_batches() {
        let (mut gathering, now) = gathered(LIMITS, messages(1..8));
        assert_eq!(gathering.due(now, None), Some(Cause::Backlog));
        assert_eq!(gathering.take().len(), 5);
        assert_eq!(gathering.due(now, None), None, "two rows are no backlog and not yet a batch");
        assert_eq!(gathering.len(), 2);
    }

    #[test]
    fn bytes_close_a_batch_and_bound_it() {
        let (mut gathering, now) = gathered(Limits { bytes: 40, ..LIMITS }, messages(1..4));
        assert_eq!(gathering.due(now, None), Some(Cause::Bytes));
        assert_eq!(gathering.take().len(), 1);
    }

    #[test]
    fn a_wish_to_flush_closes_only_what_it_means() {
        let (gathering, now) = gathered(LIMITS, messages(5..6));
        assert_eq!(gathering.due(now, Some(EntryId::new(4, 9))), None);
        assert_eq!(gathering.due(now, Some(EntryId::new(5, 0))), Some(Cause::Flush));
    }

    #[test]
    fn a_leaving_closes_its_batch_if_so_set() {
        let left = deliveries(&[event("r", 1, 0, 0, "user_left", "bob")]);
        assert_eq!(gathered(LIMITS, left.clone()).0.due(Instant::now(), None), None);
        let (mut gathering, now) = gathered(Limits { on_leave: true, ..LIMITS }, left);
        assert_eq!(gathering.due(now, None), Some(Cause::Leave));
        gathering.take();
        gathering.push(messages(1..2), now);
        assert_eq!(gathering.due(now, None), None);
    }

    #[test]
    fn what_cannot_be_read_is_held_too_and_counts_as_a_row() {
        let mut broken = messages(1..2);
        broken[0].raw.fields.clear();
        let (mut gathering, _) = gathered(LIMITS, broken);
        let held = gathering.take();
        assert!(held[0].row().is_none());
        assert_eq!((held[0].bad.as_ref().unwrap().0, held[0].place()), ("corrupt", Some(EntryId::new(1, 0))));
    }
}
