//! Where a partition's log and some of its rooms stand, at one moment.
//!
//! # Design
//! One script instead of five commands: a room's last seq and the id of its last entry belong
//! together only if nothing is written between reading the one and the other, and "nothing follows"
//! is true up to the log's end only if that end was read at the same moment.

use super::script::script;
use super::{Arg, Redis, Reply, Script};
use crate::error::Result;
use crate::model::{Cursor, EntryId, PartitionId, Room};

/// Rooms of one survey at most: Lua's `unpack` takes up to about 8,000 values.
pub const SURVEY_ROOMS_MAX: usize = 4_000;

static SURVEY: Script = script!("survey a partition", "survey.lua");

/// A partition's log and some of its rooms at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// Whether the partition is initialised. If not, what follows says nothing about its rooms.
    pub initialised: bool,
    /// Entries that the log holds.
    pub length: u64,
    /// Oldest entry that the log holds.
    pub first: Option<EntryId>,
    /// The last id that the log gave, even if that entry is gone.
    pub last: EntryId,
    /// The end of each room that was asked for, in that order; nothing if it never had an entry.
    pub heads: Vec<Option<Cursor>>,
}

impl Redis {
    /// Surveys a partition and these rooms of it, [`SURVEY_ROOMS_MAX`] at most.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn survey(&self, p: PartitionId, rooms: &[Room]) -> Result<Survey> {
        let keys = self.keys();
        let keys = vec![keys.epoch(p), keys.log(p), keys.seq(p), keys.head(p)];
        let log = self.keys().log(p);
        let kept = self.scans().kept_upto(&log);
        let entry = kept.map(|id| id.to_string()).unwrap_or_default();
        let rooms = rooms.iter().map(|room| Arg::from(room.as_str()));
        let args = std::iter::once(Arg::from(entry)).chain(rooms).collect();
        let mut parts = SURVEY.run(self, keys, args).await?.list()?.into_iter();
        let mut part = || parts.next().unwrap_or(Reply::Nil);
        let epoch = part().optional_text()?.map(str::to_owned);
        let length = u64::try_from(part().int()?).unwrap_or_default();
        let last: EntryId = part().text()?.parse()?;
        let first = part().optional_text()?.map(str::parse).transpose()?;
        let has_kept = part().int()? > 0;
        self.scans().log_is(&log, epoch.as_deref(), last, kept.filter(|_| !has_kept));
        let (seqs, heads) = (part().list()?, part().list()?);
        let heads = seqs.iter().zip(&heads).map(|(seq, id)| head(seq, id, last)).collect::<Result<_>>()?;
        Ok(Survey { initialised: epoch.is_some(), length, first, last, heads })
    }
}

/// The end of a room. Without the id of its last entry, the log's end is one that is not too early.
fn head(seq: &Reply, id: &Reply, last: EntryId) -> Result<Option<Cursor>> {
    if seq.is_nil() && id.is_nil() {
        return Ok(None);
    }
    let seq = if seq.is_nil() { 0 } else { u64::try_from(seq.int()?).unwrap_or_default() };
    let id = id.optional_text()?.map_or(Ok(last), str::parse)?;
    Ok(Some(Cursor::new(id, seq)))
}
