//! Which dead letters are meant.

use super::{Installation, Letter};
use crate::cli::ending::Outcome;
use crate::cli::when::When;
use crate::model::{EntryId, PartitionId};
use crate::stream::DeadLetter;

/// Letters of one read: each may hold a body.
const PAGE: u64 = 200;

/// Which of them.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Filter {
    /// Only of this room.
    #[arg(long)]
    pub(super) room: Option<String>,
    /// Only given up for this reason, such as data or attempts_exhausted.
    #[arg(long)]
    pub(super) reason: Option<String>,
    /// Only given up since then.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) from: Option<When>,
    /// Only given up until then.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(super) to: Option<When>,
    /// Only this one, by its own id or by that of its entry in the log; may be repeated.
    #[arg(long, value_name = "ID")]
    pub(super) id: Vec<EntryId>,
}

impl Filter {
    /// Whether anything is asked for.
    pub(super) fn is_empty(&self) -> bool {
        self.room.is_none() && self.reason.is_none() && self.from.is_none() && self.to.is_none() && self.id.is_empty()
    }

    fn takes(&self, id: EntryId, letter: &DeadLetter) -> bool {
        let is_room = |room: &String| letter.fields.iter().any(|(name, value)| name == "r" && value == room.as_bytes());
        self.room.as_ref().is_none_or(is_room)
            && self.reason.as_ref().is_none_or(|reason| *reason == letter.reason)
            && (self.id.is_empty() || self.id.contains(&id) || self.id.contains(&letter.original))
    }

    /// The letters of `group` that are meant, oldest first, handed to `each` one by one until it has had
    /// `limit`; says how many it had.
    pub(super) async fn select(
        &self,
        here: &Installation,
        group: &str,
        limit: u64,
        mut each: impl FnMut(Letter),
    ) -> Outcome<u64> {
        let mut from = self.from.map_or(EntryId::ZERO, When::first);
        let to = self.to.map_or(EntryId::MAX, When::last);
        let mut taken = 0;
        while taken < limit && from <= to {
            let page = here.redis.dead_letters(group, from, to, PAGE).await?;
            let full = page.len() as u64 == PAGE;
            let Some((last, _)) = page.last() else { break };
            from = last.next();
            for (id, letter) in page {
                if taken < limit && self.takes(id, &letter) {
                    taken += 1;
                    each(Letter { group: group.to_owned(), id, letter });
                }
            }
            if !full {
                break;
            }
        }
        Ok(taken)
    }
}

/// A letter without what was sent, so that many can be held.
#[derive(Debug, Clone)]
pub(super) struct Chosen {
    pub(super) group: String,
    pub(super) id: EntryId,
    pub(super) partition: PartitionId,
    pub(super) original: EntryId,
    pub(super) room: Option<String>,
    pub(super) reason: String,
}

impl From<Letter> for Chosen {
    fn from(of: Letter) -> Self {
        let room = of.letter.raw().text("r").map(str::to_owned);
        let DeadLetter { partition, original, reason, .. } = of.letter;
        Self { group: of.group, id: of.id, partition, original, room, reason }
    }
}
