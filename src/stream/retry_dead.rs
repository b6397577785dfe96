//! Giving a dead letter back to its group.
//!
//! **Invariant:** a letter goes only after its copy is there, and it is copied once: a crash in between
//! leaves letter and copy, and whoever tries again finds the mark and only removes the letter.
//!
//! # Design
//! The letters of a group are one key and the copies are one of each partition, so no script may touch
//! both in a cluster; the mark lives beside the copies. It is kept for a while instead of being removed
//! with the letter: somebody else may have read the letter before that, and must not copy it again.

use super::{Arg, DeadLetter, Redis, Script};
use crate::error::Result;
use crate::model::EntryId;

/// How long it is remembered that a letter was copied: longer than anybody takes between reading and
/// copying it, and long enough to try again after an evening's outage.
const MARK_MS: u64 = 7 * 24 * 3_600 * 1_000;

static RETRY: Script = Script::new("give a dead letter back", include_str!("lua/retry_dead.lua"));

impl Redis {
    /// Gives a dead letter back to its group, to be delivered beside what is live, and removes it from
    /// the dead letters. `false`: it had been given back before, and now it is removed.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn retry_dead(&self, group: &str, id: EntryId, letter: &DeadLetter) -> Result<bool> {
        let p = letter.partition;
        let keys = vec![self.keys().retried(p, group, id), self.keys().redeliver(p, group)];
        let mut args = vec![Arg::from(MARK_MS), "i".into(), letter.original.to_string().into()];
        // A copy that was given up again has the id of its original already.
        for (name, value) in letter.fields.iter().filter(|(name, _)| &name[..] != b"i") {
            args.extend([Arg::from(name.clone()), value.clone().into()]);
        }
        let copied = RETRY.run(self, keys, args).await?.int()? == 1;
        self.purge_dead(group, &[id]).await?;
        Ok(copied)
    }
}
