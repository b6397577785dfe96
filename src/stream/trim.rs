//! Trimming the log, and counting what stands between two positions.

use super::script::script;
use super::{Arg, Redis, Script};
use crate::error::Result;
use crate::model::{EntryId, PartitionId};

/// The group whose lease permits trimming.
pub const ARCHIVE_GROUP: &str = "archive";

/// Entries of one step of counting: their payloads travel, so a step stays small.
const COUNT_STEP: u64 = 1_000;

static TRIM: Script = script!("trim the log", "trim.lua");

/// How a trim ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// So many entries were removed.
    Removed(u64),
    /// The archive's lease on the partition is not the one that was given: nothing was done.
    NotOurs,
    /// A group has not delivered or not acknowledged something that would go: nothing was done.
    Needed,
}

/// Who trims.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmer {
    /// The owner of the partition's archive lease, by its token.
    Owner(u64),
    /// An operator.
    Operator,
    /// An operator who accepts that groups lose entries.
    ForcingOperator,
}

/// A number of entries that was counted up to a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// How many there are, at least.
    pub entries: u64,
    /// Whether these are all.
    pub exact: bool,
}

impl Redis {
    /// Removes the entries before `first` from the log of `p`. What groups still need is checked in the
    /// same step, unless it is forced.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn trim_log(&self, p: PartitionId, first: EntryId, trimmer: Trimmer) -> Result<Trimmed> {
        let keys = vec![self.keys().log(p), self.keys().checkpoint(p), self.keys().lease(ARCHIVE_GROUP, p)];
        let (lease, force) = match trimmer {
            Trimmer::Owner(token) => (super::lease::value_prefix(token), 0_u64),
            Trimmer::Operator => (String::new(), 0),
            Trimmer::ForcingOperator => (String::new(), 1),
        };
        let args = vec![Arg::from(first.to_string()), lease.into(), force.into()];
        Ok(match TRIM.run(self, keys, args).await?.int()? {
            -1 => Trimmed::NotOurs,
            -2 => Trimmed::Needed,
            removed => Trimmed::Removed(u64::try_from(removed).unwrap_or(0)),
        })
    }

    /// How many entries a stream holds with `from ≤ id ≤ to`, counted up to `limit`.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn count_range(&self, key: &str, from: EntryId, to: EntryId, limit: u64) -> Result<Counted> {
        let mut counted = Counted { entries: 0, exact: true };
        let mut from = from;
        while from <= to {
            let left = limit.saturating_sub(counted.entries);
            if left == 0 {
                return Ok(Counted { exact: false, ..counted });
            }
            let step = COUNT_STEP.min(left);
            let page = self.range(key, from, to, step).await?;
            counted.entries += page.len() as u64;
            match page.last() {
                Some(last) if page.len() as u64 == step && last.id != EntryId::MAX => from = last.id.next(),
                _ => break,
            }
        }
        Ok(counted)
    }
}
