//! One request on its way to its answer.

use super::page::{Bounds, Draft, Keep, Reach};
use super::window::is_beginning;
use crate::model::{Answer, Ask, Cursor, EntryId, Page, ResetReason, Resume, Room, Since};

/// Entries of one page of history at most: a room in which thousands came and went between two
/// messages must not make a page of any size.
const HISTORY_ENTRIES_MAX: usize = 1_000;
/// Messages of one page of history at most (protocol, section 3).
const HISTORY_MESSAGES_MAX: u32 = 200;

/// A message that is looked for, because its id isn't known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seek {
    /// The oldest one that is held.
    Oldest,
    /// The one with this seq, to begin with it.
    At(u64),
    /// The one with this seq, to begin after it.
    After(u64),
}

impl Seek {
    /// The number that is looked for; 0 for whatever is the oldest.
    pub(super) fn seq(self) -> u64 {
        match self {
            Self::Oldest => 0,
            Self::At(seq) | Self::After(seq) => seq,
        }
    }
}

/// Where a reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    /// After this cursor, if it can be honoured.
    Cursor(Cursor),
    /// Where this is found.
    Seek(Seek),
}

/// What the answer looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// [`Answer::Joined`].
    Joined,
    /// [`Answer::Page`].
    Page,
    /// [`Answer::History`] of the messages up to this seq.
    History {
        /// The last message that is wanted, if it is the older end that may be cut off.
        last_seq: u64,
        /// Messages at most.
        limit: u64,
        /// Which end is kept if not all fit.
        keep: Keep,
    },
}

/// Where a seek ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    /// The page begins after this.
    pub(super) after: Cursor,
    /// Why it isn't where it was wanted.
    pub(super) missed: Option<ResetReason>,
}

impl Found {
    /// Found where it was wanted.
    pub(super) fn at(after: Cursor) -> Self {
        Self { after, missed: None }
    }

    /// Begun after `after` because what was looked for isn't held. Only who named a message must be
    /// told; "the oldest" and "the newest" are what there is.
    pub(super) fn instead(seek: Seek, after: Cursor) -> Self {
        let missed = match seek {
            Seek::After(seq) if after.seq != seq => Some(ResetReason::Trimmed),
            _ => None,
        };
        Self { after, missed }
    }
}

/// One request on its way to its answer.
#[derive(Debug)]
pub(super) struct Reading {
    /// The request's place in its batch.
    pub(super) index: usize,
    /// Its room.
    pub(super) room: Room,
    /// The room's end at the survey.
    pub(super) head: Cursor,
    /// Where it is to begin.
    pub(super) begin: Begin,
    /// What the answer looks like.
    pub(super) shape: Shape,
    /// Where it begins, once that is known.
    pub(super) found: Option<Found>,
    /// The page.
    pub(super) draft: Option<Draft>,
    /// After what the log was read.
    pub(super) log_from: Option<EntryId>,
    /// Up to here it was read, or there is nothing of the room.
    pub(super) position: EntryId,
    /// Entries of the log that were read for it.
    pub(super) cost: u64,
    /// Up to where the room was read, once reading has ended.
    pub(super) reach: Option<Reach>,
    /// Whether the archive has said all that it holds for it.
    pub(super) archive_asked: bool,
    /// Entries that came from the archive.
    pub(super) archive_rows: usize,
    /// Whether the archive holds messages of the room, if it was asked.
    pub(super) is_archived: Option<bool>,
    /// Whether the window holds all that is held of the room.
    pub(super) whole_in_window: bool,
    /// Whether the answer counts only if the room's very first entry is in it.
    pub(super) must_begin: bool,
}

/// What can be said of a request right after the survey.
#[derive(Debug)]
pub(super) enum Plan {
    /// The answer.
    Answered(Answer),
    /// Read from here.
    Read(Begin, Shape),
}

/// Plans the answer to `ask` in a room with this end, while the log has given ids up to `last`.
pub(super) fn plan(ask: &Ask, head: Option<Cursor>, last: EntryId) -> Plan {
    let Some(head) = head else { return Plan::Answered(without_room(ask, last)) };
    match *ask {
        Ask::Join(since) => plan_join(since, head, last),
        Ask::Page(cursor) => plan_page(cursor, head, last),
        Ask::History { before, after, limit } => plan_history(before, after, limit, head),
    }
}

fn plan_join(since: Since, head: Cursor, last: EntryId) -> Plan {
    let seek = |seek| Plan::Read(Begin::Seek(seek), Shape::Joined);
    let at_head = |resume, reason| {
        let page = Page { entries: Vec::new(), upto: Cursor::new(head.id.max(last), head.seq), more: false };
        Plan::Answered(Answer::Joined { resume, reason, since: head, head, page })
    };
    match since {
        Since::Now | Since::Last(0) => at_head(Resume::Fresh, None),
        Since::Start | Since::Seq(0) | Since::Cursor(Cursor::START) => seek(Seek::Oldest),
        Since::Last(n) if u64::from(n) >= head.seq => seek(Seek::Oldest),
        Since::Last(n) => seek(Seek::At(head.seq - u64::from(n) + 1)),
        Since::Seq(n) if n > head.seq => at_head(Resume::Reset, Some(ResetReason::Forked)),
        Since::Seq(n) => seek(Seek::After(n)),
        Since::Cursor(cursor) if cursor == head => at_head(Resume::Resumed, None),
        Since::Cursor(cursor) if cursor.id >= head.id => at_head(Resume::Reset, Some(ResetReason::Forked)),
        Since::Cursor(cursor) => Plan::Read(Begin::Cursor(cursor), Shape::Joined),
    }
}

fn plan_page(cursor: Cursor, head: Cursor, last: EntryId) -> Plan {
    if cursor.id < head.id {
        return Plan::Read(Begin::Cursor(cursor), Shape::Page);
    }
    // The cursor may be the end of an earlier page: beyond the room's last entry, never beyond the log.
    let honoured = cursor.seq == head.seq && (cursor.id == head.id || cursor.id <= last);
    let after = if honoured { cursor } else { head };
    let page = Page { entries: Vec::new(), upto: Cursor::new(after.id.max(last), head.seq), more: false };
    let reset = (!honoured).then_some((ResetReason::Forked, head));
    Plan::Answered(Answer::Page { reset, page })
}

fn plan_history(before: Option<u64>, after: Option<u64>, limit: u32, head: Cursor) -> Plan {
    let limit = u64::from(limit.clamp(1, HISTORY_MESSAGES_MAX));
    let (first, last_seq, keep) = match after {
        Some(after) => (after.saturating_add(1), after.saturating_add(limit).min(head.seq), Keep::Oldest),
        None => {
            let end = before.unwrap_or(u64::MAX).min(head.seq.saturating_add(1));
            (end.saturating_sub(limit).max(1), end.saturating_sub(1), Keep::Newest)
        }
    };
    let begin = match () {
        // Events before the first message come with it; without any message they are all there is.
        () if last_seq < first && !(head.seq == 0 && first == 1) => Begin::Cursor(head),
        () if first == 1 => Begin::Seek(Seek::Oldest),
        () => Begin::Seek(Seek::At(first)),
    };
    Plan::Read(begin, Shape::History { last_seq, limit, keep })
}

/// The answer in a room that never had an entry.
fn without_room(ask: &Ask, last: EntryId) -> Answer {
    let page = Page { entries: Vec::new(), upto: Cursor::new(last, 0), more: false };
    match *ask {
        Ask::Join(Since::Cursor(cursor)) if cursor != Cursor::START => Answer::Joined {
            resume: Resume::Reset,
            reason: Some(ResetReason::UnknownCursor),
            since: Cursor::START,
            head: Cursor::START,
            page,
        },
        Ask::Join(Since::Seq(n)) if n > 0 => Answer::Joined {
            resume: Resume::Reset,
            reason: Some(ResetReason::Forked),
            since: Cursor::START,
            head: Cursor::START,
            page,
        },
        Ask::Join(_) => {
            Answer::Joined { resume: Resume::Fresh, reason: None, since: Cursor::START, head: Cursor::START, page }
        }
        Ask::Page(cursor) => {
            let known = cursor.seq == 0 && cursor.id <= last;
            Answer::Page { reset: (!known).then_some((ResetReason::UnknownCursor, Cursor::START)), page }
        }
        Ask::History { .. } => Answer::History { entries: Vec::new(), more: false, floor: 0, head: Cursor::START },
    }
}

impl Reading {
    /// A request that has to be read.
    pub(super) fn new(index: usize, room: Room, head: Cursor, begin: Begin, shape: Shape) -> Self {
        let found = match begin {
            Begin::Cursor(cursor) => Some(Found::at(cursor)),
            Begin::Seek(_) => None,
        };
        Self {
            index,
            room,
            head,
            begin,
            shape,
            found,
            draft: None,
            log_from: None,
            position: EntryId::ZERO,
            cost: 0,
            reach: None,
            archive_asked: false,
            archive_rows: 0,
            is_archived: None,
            whole_in_window: false,
            must_begin: false,
        }
    }

    /// Begins at the start of the room, if the log, which begins after `log_start`, has that.
    pub(super) fn begin_with_room(&mut self, log_start: EntryId) {
        self.found = Some(Found::at(Cursor::START));
        self.position = log_start;
        self.must_begin = true;
    }

    /// Whether it begins where it must.
    pub(super) fn begins_right(&self) -> bool {
        !self.must_begin || self.draft.as_ref().and_then(Draft::first).is_some_and(is_beginning)
    }

    /// What is looked for, as long as it isn't found.
    pub(super) fn seek(&self) -> Option<Seek> {
        match (self.begin, self.found) {
            (Begin::Seek(seek), None) => Some(seek),
            _ => None,
        }
    }

    /// After what to read on, if that is known and reading has not ended.
    pub(super) fn pending_from(&self) -> Option<EntryId> {
        if self.reach.is_some() { None } else { self.found.map(|found| found.after.id.max(self.position)) }
    }

    /// The draft, begun if it isn't yet. Only after the beginning was found.
    pub(super) fn draft(&mut self, page: Bounds) -> &mut Draft {
        let after = self.found.map_or(Cursor::START, |found| found.after);
        let shape = self.shape;
        self.draft.get_or_insert_with(|| match shape {
            Shape::Joined | Shape::Page => Draft::new(after, u64::MAX, Keep::Oldest, page),
            Shape::History { last_seq, limit, keep } => {
                let last_seq = if keep == Keep::Oldest { after.seq.saturating_add(limit) } else { last_seq };
                Draft::new(after, last_seq, keep, Bounds { entries: HISTORY_ENTRIES_MAX, ..page })
            }
        })
    }

    /// Ends reading if the page is full, or the room was read to its end or as far as `position`.
    pub(super) fn settle(&mut self, position: EntryId, log_end: EntryId, ended: bool) {
        self.position = self.position.max(position);
        if self.draft.as_ref().is_some_and(Draft::is_closed) {
            self.reach = Some(Reach::Part(position));
        } else if ended || position >= self.head.id {
            self.reach = Some(Reach::End(position.max(log_end)));
        }
    }
}
