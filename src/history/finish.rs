//! From what was read to the answer: was the cursor true, and what is said if it wasn't.
//!
//! **Invariant:** a page from the log is given only if nothing can have been trimmed from under it:
//! the log still begins before the page, or the archive covers what is gone. Numbers prove nothing
//! here: they are dense over messages, and an event that is gone leaves no hole in them.

use super::page::{Bounds, Keep, Reach};
use super::pass::{Checkpoint, Pass};
use super::reading::{Begin, Reading, Seek, Shape};
use super::walk::{Cost, walk};
use crate::error::{Error, Kind, Result};
use crate::model::{Answer, Cursor, EntryId, Page, ResetReason, Resume};
use crate::telemetry::names;

/// What became of the place where delivery was to begin.
struct Verdict {
    reset: Option<ResetReason>,
    since: Cursor,
}

impl Reading {
    /// Whether it is a page of history.
    pub(super) fn is_history(&self) -> bool {
        matches!(self.shape, Shape::History { .. })
    }

    /// The seq of the last message before what was read, as the room tells it; nothing if not even
    /// an entry was seen.
    fn told(&self) -> Option<Cursor> {
        self.draft.as_ref().and_then(|draft| draft.begin())
    }

    fn source(&self) -> &'static str {
        match (self.archive_rows, self.draft.as_ref().map_or(0, |draft| draft.len())) {
            (0, _) => "log",
            (rows, held) if rows >= held => "archive",
            _ => "both",
        }
    }
}

impl Pass<'_> {
    /// The answer, or nothing if the log was trimmed from under it and it has to be tried again.
    /// `begin` is where the log begins now.
    pub(super) async fn finish(&self, reading: Reading, begin: EntryId) -> Result<Option<Answer>> {
        let (Some(found), Some(reach)) = (reading.found, reading.reach) else { return Ok(Some(Answer::Unavailable)) };
        if !self.is_covered(&reading, begin) {
            return Ok((self.checkpoint == Checkpoint::Away).then_some(Answer::Unavailable));
        }
        if !reading.begins_right() {
            return Ok(Some(Answer::Unavailable));
        }
        if let Shape::History { keep, .. } = reading.shape {
            return self.finish_history(reading, keep).await.map(Some);
        }
        let Some(verdict) = self.judge(&reading, found.after, reach, begin).await else {
            return Ok(Some(Answer::Unavailable));
        };
        let verdict = Verdict { reset: found.missed.or(verdict.reset), ..verdict };
        metrics::counter!(names::REPLAY_PAGES, "source" => reading.source()).increment(1);
        Ok(Some(compose(reading, verdict, reach)))
    }

    /// Whether everything that the room has after the beginning was read.
    fn is_covered(&self, reading: &Reading, begin: EntryId) -> bool {
        let untouched = begin == self.log_begin();
        reading.log_from.is_none_or(|from| from.next() >= begin || (reading.archive_asked && untouched))
    }

    /// Whether delivery can begin after `wanted`; nothing if that can't be known now.
    async fn judge(&self, reading: &Reading, wanted: Cursor, reach: Reach, begin: EntryId) -> Option<Verdict> {
        let before = match (reading.told(), reach) {
            (Some(told), _) => told.seq,
            // Nothing follows, so the room's last number is the one before.
            (None, Reach::End(_)) => reading.head.seq,
            (None, Reach::Part(_)) => wanted.seq,
        };
        if before == wanted.seq {
            return Some(Verdict { reset: None, since: wanted });
        }
        // What the log still covers can't have been trimmed: these numbers are of another history.
        let may_be_trimmed = before > wanted.seq && wanted.id.next() < begin;
        if may_be_trimmed && !self.is_held_before(reading, wanted.id).await.ok()? {
            let since = reading.told().map_or(reading.head, |told| Cursor::new(told.id.previous(), told.seq));
            return Some(Verdict { reset: Some(ResetReason::Trimmed), since });
        }
        let since = Cursor::new(wanted.id.min(reading.head.id), before);
        Some(Verdict { reset: Some(ResetReason::Forked), since })
    }

    /// Whether a message of the room at or before `id` is still held. Only asked where the log begins later.
    async fn is_held_before(&self, reading: &Reading, id: EntryId) -> Result<bool> {
        Ok(self.archive.oldest_message(&reading.room).await?.is_some_and(|oldest| oldest.id <= id))
    }

    async fn finish_history(&self, mut reading: Reading, keep: Keep) -> Result<Answer> {
        let source = reading.source();
        let draft = reading.draft(self.cost.page);
        let (lowest, highest, closed) = (draft.lowest_seq(), draft.highest_seq(), draft.is_closed());
        if !closed && matches!(reading.reach, Some(Reach::Part(_))) {
            return Ok(Answer::Unavailable);
        }
        let Ok(floor) = self.floor(&reading, lowest).await else { return Ok(Answer::Unavailable) };
        metrics::counter!(names::REPLAY_PAGES, "source" => source).increment(1);
        let more = match keep {
            Keep::Newest => lowest.is_some_and(|lowest| lowest > floor),
            Keep::Oldest => highest.is_some_and(|highest| highest < reading.head.seq),
        };
        let head = reading.head;
        let entries = reading.draft.map(|draft| draft.into_entries()).unwrap_or_default();
        let head = entries.last().map(|entry| entry.cursor()).filter(|last| last.id > head.id).unwrap_or(head);
        Ok(Answer::History { entries, more, floor, head })
    }

    /// Lowest message that is held anywhere.
    async fn floor(&self, reading: &Reading, lowest: Option<u64>) -> Result<u64> {
        if lowest == Some(1) || reading.head.seq == 0 {
            return Ok(lowest.unwrap_or(0));
        }
        if let Some(oldest) = self.archive.oldest_message(&reading.room).await? {
            return Ok(lowest.map_or(oldest.seq, |lowest| lowest.min(oldest.seq)));
        }
        // Nothing of the room is archived: its oldest message is the first one in the log.
        let mut first =
            Reading::new(0, reading.room.clone(), reading.head, Begin::Cursor(Cursor::START), Shape::Joined);
        let cost = Cost { page: Bounds { entries: 1, bytes: 0 }, ..self.cost };
        walk(self.redis, &self.key, self.survey.last, cost, &mut [&mut first]).await?;
        match (first.told(), first.reach, lowest) {
            (Some(told), _, _) => Ok(told.seq + 1),
            (None, Some(Reach::End(_)), lowest) => Ok(lowest.unwrap_or(0)),
            _ => Err(Error::new(Kind::PostgresUnavailable, "find the oldest message of a room: too far to look")),
        }
    }
}

/// Joins and pages.
fn compose(reading: Reading, verdict: Verdict, reach: Reach) -> Answer {
    let Verdict { reset, since } = verdict;
    let source = reading.source();
    let (head, begin, shape) = (reading.head, reading.begin, reading.shape);
    let page = reading.draft.map(|draft| draft.into_page(since, reach, head));
    let page = page.unwrap_or_else(|| Page { entries: Vec::new(), upto: since, more: true });
    metrics::counter!(names::REPLAY_ENTRIES, "source" => source).increment(page.entries.len() as u64);
    if shape == Shape::Page {
        return Answer::Page { reset: reset.map(|reason| (reason, since)), page };
    }
    let head = page.entries.last().map(|entry| entry.cursor()).filter(|last| last.id > head.id).unwrap_or(head);
    let (resume, reason) = match (begin, reset) {
        (Begin::Cursor(_), None) => (Resume::Resumed, None),
        (Begin::Cursor(_) | Begin::Seek(Seek::After(_)), Some(reason)) => (Resume::Reset, Some(reason)),
        (Begin::Seek(_), _) => (Resume::Fresh, None),
    };
    Answer::Joined { resume, reason, since, head, page }
}
