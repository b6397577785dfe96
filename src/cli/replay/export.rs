//! `replay --to stdout`: the range as JSON lines, in the order of ids over all partitions.

use std::collections::{BTreeMap, VecDeque};

use super::super::ending::Outcome;
use super::super::output::Lines;
use super::super::{item, output};
use super::source::Source;
use crate::model::{Entry, EntryId};

/// What is read ahead of one partition.
struct Ahead {
    source: Source,
    entries: VecDeque<Entry>,
    upto: EntryId,
    ended: bool,
}

/// Writes every entry after `after` of all sources; says how many there were.
pub(super) async fn run(sources: Vec<Source>, after: EntryId) -> Outcome<u64> {
    let mut lines = Lines::new();
    let mut written = 0;
    let mut unreadable = 0;
    let ahead = |source| Ahead { source, entries: VecDeque::new(), upto: after, ended: false };
    let mut aheads: Vec<Ahead> = sources.into_iter().map(ahead).collect();
    // The next entry of each partition; ids of different partitions may be equal.
    let mut next: BTreeMap<(EntryId, usize), Entry> = BTreeMap::new();
    for (index, ahead) in aheads.iter_mut().enumerate() {
        next.extend(ahead.take(&mut unreadable).await?.map(|entry| ((entry.id, index), entry)));
    }
    while let Some(((_, index), entry)) = next.pop_first() {
        lines.add(&item::json_line(&entry)?)?;
        written += 1;
        next.extend(aheads[index].take(&mut unreadable).await?.map(|entry| ((entry.id, index), entry)));
    }
    lines.finish()?;
    if unreadable > 0 {
        output::note(format!("left out {}", output::count(unreadable, "unreadable entry", "unreadable entries")));
    }
    Ok(written)
}

impl Ahead {
    async fn take(&mut self, unreadable: &mut u64) -> Outcome<Option<Entry>> {
        while self.entries.is_empty() && !self.ended {
            let page = self.source.after(self.upto).await?;
            *unreadable += page.unreadable;
            (self.entries, self.upto, self.ended) = (page.entries.into(), page.upto, page.ended);
        }
        Ok(self.entries.pop_front())
    }
}
