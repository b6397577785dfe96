//! Are a room's numbers dense, along its ids?

use std::collections::BTreeSet;

use super::index::Index;
use super::{Found, ViolationKind};
use crate::verify::{Content, Seen};

/// Numbers of one room that are remembered as left out, at most: what is beyond is a gap for good.
const OPEN_MAX: usize = 10_000;

/// Follows one room along its ids; says what is wrong with each number.
#[derive(Debug, Clone, Default)]
pub struct Density {
    last: Option<u64>,
    open: BTreeSet<u64>,
}

impl Density {
    /// A room that is followed from its first entry on.
    pub fn from_start() -> Self {
        Self { last: Some(0), open: BTreeSet::new() }
    }

    /// A room that is followed from somewhere on: the first entry says where.
    pub fn from_anywhere() -> Self {
        Self::default()
    }

    /// The next entry along the ids, and what is wrong with its number. Numbers that it leaves out are
    /// wrong only if they don't come later: see [`Density::finish`].
    pub fn next(&mut self, seen: &Seen) -> Option<ViolationKind> {
        let is_message = matches!(seen.content, Content::Message { .. });
        let before = if is_message { seen.seq.saturating_sub(1) } else { seen.seq };
        let last = *self.last.get_or_insert(before);
        if before >= last {
            self.open.extend((last + 1..=before).take(OPEN_MAX.saturating_sub(self.open.len())));
            self.last = Some(seen.seq);
            return None;
        }
        match is_message {
            true if self.open.remove(&seen.seq) => Some(ViolationKind::OrderBroken),
            true => Some(ViolationKind::SeqDoubled),
            false => Some(ViolationKind::SeqAltered),
        }
    }

    /// The numbers that were left out, as ranges.
    pub fn finish(self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for seq in self.open {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                _ => ranges.push((seq, seq)),
            }
        }
        ranges
    }
}

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    for (room, of) in &index.rooms {
        let mut density = Density::from_start();
        for seen in &of.truth {
            if let Some(kind) = density.next(seen) {
                found.entry(kind, seen, "its number does not fit to the entries before it");
            }
        }
        for (first, last) in density.finish() {
            let message = format!("room {room}: no message has number {first} to {last}, but later ones are there");
            found.add(ViolationKind::SeqGap, Some(room), None, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EntryId, Room};
    use crate::verify::Digest;

    fn walk(density: &mut Density, seqs: &[u64]) -> Vec<Option<ViolationKind>> {
        let content = |seq: u64| Content::Message {
            user: crate::model::UserId::new("u").unwrap(),
            device: crate::model::DeviceId::new("d").unwrap(),
            cid: crate::model::Cid::new(&format!("c{seq}")).unwrap(),
            body: Digest::of_json("1"),
        };
        let seen = |(n, seq): (usize, &u64)| Seen {
            room: Room::new("r").unwrap(),
            id: EntryId::new(1, n as u64),
            seq: *seq,
            content: content(*seq),
        };
        seqs.iter().enumerate().map(seen).map(|seen| density.next(&seen)).collect()
    }

    #[test]
    fn a_gap_a_double_and_a_swap_are_told_apart() {
        let mut dense = Density::from_start();
        assert_eq!(walk(&mut dense, &[1, 2, 3]), [None; 3]);
        assert_eq!(dense.finish(), []);
        let mut gap = Density::from_start();
        assert_eq!(walk(&mut gap, &[2, 3, 6]), [None; 3]);
        assert_eq!(gap.finish(), [(1, 1), (4, 5)]);
        let mut double = Density::from_start();
        assert_eq!(walk(&mut double, &[1, 2, 2, 3]), [None, None, Some(ViolationKind::SeqDoubled), None]);
        let mut swap = Density::from_start();
        assert_eq!(walk(&mut swap, &[1, 3, 2, 4]), [None, None, Some(ViolationKind::OrderBroken), None]);
        assert_eq!(swap.finish(), []);
        let mut later = Density::from_anywhere();
        assert_eq!(walk(&mut later, &[7, 8]), [None; 2]);
        assert_eq!(later.finish(), []);
    }
}
