//! The log and the archive read as one: where delivery begins, pages, history, ranges.
//!
//! Knows which cursors can be honoured, finds messages by number, and gives a room's entries in
//! order and without a hole, wherever they are held. Doesn't know who asks. It never answers with
//! less than it says: what can't be known now is [`Answer::Unavailable`].
//!
//! **Invariant:** in what an answer gives, and between its beginning and its end, the seqs of the
//! messages go up by exactly one; a message that can't be given is announced as a reset.
//!
//! # Design
//!
//! **Where entries are read.** Requests that wait together share their reading of the log:
//!
//! 1. One *survey*, a script: the end of each room and of the log, at the same moment. A cursor that
//!    equals its room's end is answered by it, so a storm of reconnects costs a call per partition.
//! 2. *Looking back*: who begins at a message whose id isn't known (the newest n, the oldest, a seq)
//!    looks through the last 2,000 entries, read backwards once for all (not for the first of many messages);
//!    then in the archive by (room, seq); then in the log after the archive's checkpoint. The archive also says
//!    where a room's oldest entry is: a room that is younger than the log is read from there.
//! 3. *The archive*, for cursors that are older than the log, or so far back that reading the whole
//!    partition from there would cost more than `replay.scan_entries`: from the cursor up to the
//!    checkpoint, which is read first, because rows beyond it may still lack neighbours.
//! 4. *The log*, forwards, from the oldest cursor (or checkpoint) on, for all at once. Who has used
//!    up its budget gets what there is, and how far that reaches: the next page goes on from there.
//!
//! **Which cursors are honoured.** A cursor `{id, seq}` is true if the first entry of the room after
//! `id` continues `seq`, or if there is none and the room's last number is `seq`: then the room's
//! message `seq` stands at or before `id`, and nothing after it is missing. Otherwise:
//!
//! | what was found | reason | delivery begins after |
//! |---|---|---|
//! | a cursor beyond the room's end | `forked` | the end, or the cursor's id if that is earlier |
//! | another number follows `id` | `forked` | the cursor's id, with the number that stands there |
//! | a later number follows, and it is the oldest that is held anywhere | `trimmed` | just before it |
//! | the room never had an entry | `unknown_cursor` | the start |
//!
//! A hole *inside* a page ends the page before it, and the request for the next one hears of it.
//!
//! **Trimming goes on meanwhile.** A reading of the log counts if the log, afterwards, still begins
//! before the place it was read from; or if nothing was trimmed meanwhile and the archive has told
//! what was gone before; else it is tried again, and finds the rest in the archive. Without an archive
//! (Postgres is down) it is [`Answer::Unavailable`], even if the numbers continue: events have none.
//!
//! **The log alone** ([`History::of_log`], for edges) answers by the same rules what it holds from the cursor on, within
//! `replay.scan_entries`; a room from its start only if its first entry in the log is `room_created`. Nothing else is tried.
//!
//! **History** is a page that begins at a number and ends at one. An event belongs to the page of the
//! message before it; those before a room's first message come with that one. A page holds at most
//! 1,000 entries; if more events than that lie between its messages, the oldest of them are left out.
//!
//! Tried first: resolving `since` in the edge, from hashes of ids by number. It needed an index of
//! every message in Redis for the sake of the few that are asked for.

mod archive;
mod finish;
mod page;
mod pass;
mod reading;
mod stretch;
mod walk;
mod window;

use tracing::warn;

use self::archive::Archive;
use self::pass::Pass;
pub use self::stretch::Stretch;
use crate::config::ReplaySettings;
use crate::error::Result;
use crate::model::{Answer, Ask, PartitionId, Room};
use crate::store::Store;
use crate::stream::{Redis, SURVEY_ROOMS_MAX};

/// Attempts at a request whose log is being trimmed while it is read. The second goes to the archive.
const PASSES_MAX: usize = 3;
/// Requests of one pass at most. Beyond it, pages would fill the memory of a small machine.
const REQUESTS_MAX: usize = 2_000;
const _: () = assert!(REQUESTS_MAX <= SURVEY_ROOMS_MAX, "a survey takes the rooms of a pass");

/// The log and the archive read as one.
pub struct History {
    redis: Redis,
    archive: Archive,
    settings: ReplaySettings,
}

impl History {
    /// History on this log and this archive.
    pub fn new(redis: Redis, store: Store, settings: &ReplaySettings) -> Self {
        Self { redis, archive: Archive::new(Some(store)), settings: settings.clone() }
    }

    /// What the log by itself can prove, and soon: nothing is looked for beyond `replay.scan_entries`. All else is
    /// [`Answer::Unavailable`]: it has to be asked where there is an archive.
    pub fn of_log(redis: Redis, settings: &ReplaySettings) -> Self {
        Self { redis, archive: Archive::new(None), settings: settings.clone() }
    }

    /// Answers requests about rooms of one partition, each in its place.
    ///
    /// # Errors
    /// As Redis answers. An archive that doesn't answer is no error: see [`Answer::Unavailable`].
    pub async fn answer(&self, partition: PartitionId, asks: &[(Room, Ask)]) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(asks.len());
        for asks in asks.chunks(REQUESTS_MAX) {
            answers.extend(self.answer_some(partition, asks).await?);
        }
        Ok(answers)
    }

    async fn answer_some(&self, partition: PartitionId, asks: &[(Room, Ask)]) -> Result<Vec<Answer>> {
        let mut answers: Vec<Option<Answer>> = vec![None; asks.len()];
        for _ in 0..PASSES_MAX {
            let open = asks.iter().enumerate().filter(|(index, _)| answers[*index].is_none());
            let open: Vec<(usize, &Room, &Ask)> = open.map(|(index, (room, ask))| (index, room, ask)).collect();
            if open.is_empty() {
                break;
            }
            let rooms: Vec<Room> = open.iter().map(|(_, room, _)| (*room).clone()).collect();
            let survey = self.redis.survey(partition, &rooms).await?;
            if !survey.initialised {
                warn!(partition = %partition, "partition {partition} is not initialised; its requests have to wait");
                break;
            }
            let mut pass = Pass::new(&self.redis, &self.archive, &self.settings, partition, survey);
            for (index, answer) in pass.run(&open).await? {
                answers[index] = Some(answer);
            }
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Answer::Unavailable)).collect())
    }
}
