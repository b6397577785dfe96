//! What publishers were told, what the log holds and what the archive holds: one and the same?

use super::index::{ARCHIVE, Answer, InRoom, Index, Key, Sent, key};
use super::pairing::{Pair, Pairing, differences};
use super::{Found, ViolationKind};
use crate::model::Room;
use crate::verify::Seen;

pub(super) fn check(index: &Index<'_>, found: &mut Found) {
    for (room, of) in &index.rooms {
        rows_once(&of.log, "the log", found);
        rows_once(&of.archive, "the archive", found);
        log_and_archive(index, of, found);
        messages_once(room, of, found);
        as_sent(of, found);
        for (key, sent) in &of.sends {
            as_answered(index, room, of, *key, sent, found);
        }
    }
}

/// No id twice.
fn rows_once(rows: &[&Seen], wher: &str, found: &mut Found) {
    for pair in rows.windows(2).filter(|pair| pair[0].id == pair[1].id) {
        found.entry(ViolationKind::StoredTwice, pair[1], format!("{wher} holds it twice"));
    }
}

/// The archive holds what the log holds, alike, and the other way down to where the log was trimmed.
fn log_and_archive(index: &Index<'_>, of: &InRoom<'_>, found: &mut Found) {
    for seen in of.log.iter().chain(&of.archive).filter(|seen| of.is_invented(seen)) {
        found.entry(ViolationKind::Invented, seen, "it is held, and nobody sent it");
    }
    let mut pairing = Pairing::default();
    pairing.feed_first(once(of, &of.log), true);
    pairing.feed_second(once(of, &of.archive), true);
    while let Some(pair) = pairing.step() {
        match pair {
            Pair::Both(log, archive) => {
                for (kind, how) in differences(log, archive) {
                    found.entry(kind, log, format!("the archive has {how}"));
                }
            }
            Pair::First(log) if !index.is_dead(ARCHIVE, &log.room, log.id) && !of.is_lost(log.id) => {
                found.entry(ViolationKind::MissingInArchive, log, "the log holds it, the archive does not");
            }
            Pair::Second(archive) if archive.id >= of.floor && !of.is_lost(archive.id) => {
                found.entry(ViolationKind::MissingInLog, archive, "the archive holds it, the log does not");
            }
            _ => {}
        }
    }
}

/// Rows that somebody sent, each once: the others are reported already.
fn once<'h>(of: &InRoom<'_>, rows: &[&'h Seen]) -> Vec<&'h Seen> {
    let mut rows: Vec<&Seen> = rows.iter().filter(|seen| !of.is_invented(seen)).copied().collect();
    rows.dedup_by_key(|seen| seen.id);
    rows
}

/// No message under two ids.
fn messages_once(room: &Room, of: &InRoom<'_>, found: &mut Found) {
    for ((user, device, cid), ids) in of.places.iter().filter(|(_, ids)| ids.len() > 1) {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let message = format!("room {room}: message {cid} of {user}/{device} stands at {}", ids.join(" and "));
        found.add(ViolationKind::StoredTwice, Some(room), None, message);
    }
}

/// Bodies as they were sent.
fn as_sent(of: &InRoom<'_>, found: &mut Found) {
    for seen in &of.truth {
        let crate::verify::Content::Message { body, .. } = &seen.content else { continue };
        let sent = key(seen).and_then(|key| of.sends.get(&key));
        if let Some(sent) = sent.filter(|sent| !sent.bodies.contains(body)) {
            found.entry(ViolationKind::BodyAltered, seen, format!("{} sent another body", sent.who));
        }
    }
}

/// What was answered is so; what was refused for good is nowhere.
fn as_answered<'h>(index: &Index<'h>, room: &Room, of: &InRoom<'h>, key: Key<'h>, sent: &Sent<'_>, found: &mut Found) {
    let (cid, who) = (key.2, sent.who);
    let places = of.places.get(&key).map(Vec::as_slice).unwrap_or_default();
    if let Some(id) = places.first().filter(|_| sent.refused == sent.attempts) {
        let message = format!("room {room}: message {cid} of {who} was refused for good and stands at {id}");
        found.add(ViolationKind::RefusedButStored, Some(room), Some(*id), message);
    }
    let mut seen_before = Vec::new();
    for Answer { id, seq, .. } in &sent.accepted {
        if of.is_lost(*id) || seen_before.contains(&(*id, *seq)) {
            continue;
        }
        seen_before.push((*id, *seq));
        let stands = of.find(*id).map(|n| of.truth[n]).filter(|seen| super::index::key(seen) == Some(key));
        let told = format!("room {room}: message {cid} of {who} was answered id {id} seq {seq}");
        let mut add = |kind, what: &str| found.add(kind, Some(room), Some(*id), format!("{told}, {what}"));
        match (stands, places.first()) {
            (Some(seen), _) if seen.seq == *seq => {}
            (Some(seen), _) => add(ViolationKind::AnswerDisagrees, &format!("and has seq {}", seen.seq)),
            (None, Some(place)) => add(ViolationKind::AnswerDisagrees, &format!("and stands at {place}")),
            (None, None) => {
                if *id >= of.floor {
                    add(ViolationKind::MissingInLog, "and is not in the log");
                }
                if !index.is_dead(ARCHIVE, room, *id) {
                    add(ViolationKind::MissingInArchive, "and is not in the archive");
                }
            }
        }
    }
}
