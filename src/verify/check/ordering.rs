//! Is the log's order the one in which things were sent?

use std::collections::BTreeMap;

use super::index::{InRoom, Index, Key, Sent};
use super::{Found, ViolationKind};
use crate::model::{EntryId, Room};

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    for (room, of) in &index.rooms {
        publishers(room, of, found);
        real_time(room, of, found);
    }
}

/// Each publisher's sends that needed one attempt stand in the order in which they left. What had to
/// be repeated takes its place when it is repeated.
fn publishers(room: &Room, of: &InRoom<'_>, found: &mut Found) {
    let mut sends: BTreeMap<&str, Vec<(&Key<'_>, &Sent<'_>)>> = BTreeMap::new();
    for (key, sent) in of.sends.iter().filter(|(_, sent)| sent.attempts == 1 && !sent.accepted.is_empty()) {
        sends.entry(sent.who).or_default().push((key, sent));
    }
    for (who, mut sends) in sends {
        sends.sort_by_key(|(_, sent)| sent.order);
        let mut last: Option<(EntryId, &Key<'_>)> = None;
        for (key, sent) in sends {
            let id = stands(of, key, sent);
            match last {
                Some((before, earlier)) if id <= before => {
                    let message = format!(
                        "room {room}: {who} sent {} before {}, but they stand at {before} and {id}",
                        earlier.2, key.2
                    );
                    found.add(ViolationKind::OrderBroken, Some(room), Some(id), message);
                }
                _ => last = Some((id, key)),
            }
        }
    }
}

/// What was accepted before another was first sent stands before it, whoever sent them.
fn real_time(room: &Room, of: &InRoom<'_>, found: &mut Found) {
    let mut answered: Vec<(u64, EntryId, &Key<'_>)> = Vec::new();
    let mut invoked: Vec<(u64, EntryId, &Key<'_>)> = Vec::new();
    for (key, sent) in &of.sends {
        if let Some(first) = sent.accepted.iter().min_by_key(|answer| answer.at_us) {
            answered.push((first.at_us, stands(of, key, sent), key));
        }
        if !sent.accepted.is_empty() || of.places.contains_key(key) {
            invoked.push((sent.invoked_us, stands(of, key, sent), key));
        }
    }
    answered.sort_unstable_by_key(|(at, ..)| *at);
    invoked.sort_unstable_by_key(|(at, ..)| *at);
    let mut answered = answered.into_iter().peekable();
    let mut highest: Option<(EntryId, &Key<'_>)> = None;
    for (at, id, key) in invoked {
        while let Some((_, id, key)) = answered.next_if(|(accepted, ..)| *accepted < at) {
            if highest.is_none_or(|(highest, _)| highest < id) {
                highest = Some((id, key));
            }
        }
        if let Some((before, earlier)) = highest.filter(|(highest, _)| *highest >= id) {
            let message = format!(
                "room {room}: message {} of {} was accepted at {before} before {} of {} left, which stands at {id}",
                earlier.2, earlier.0, key.2, key.0
            );
            found.add(ViolationKind::RealTimeOrderBroken, Some(room), Some(id), message);
        }
    }
}

/// Where a message stands, or was said to stand.
fn stands(of: &InRoom<'_>, key: &Key<'_>, sent: &Sent<'_>) -> EntryId {
    let place = of.places.get(key).and_then(|ids| ids.first().copied());
    place.or_else(|| sent.accepted.first().map(|answer| answer.id)).unwrap_or_default()
}
