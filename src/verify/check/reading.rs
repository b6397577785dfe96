//! Is each subscriber's account the log, from where it began, once and in order?

use std::collections::{BTreeSet, HashMap};

use super::index::{InRoom, Index, key};
use super::pairing::differences;
use super::{Found, ViolationKind};
use crate::model::{Cursor, DeviceId, Resume, Room, Since, UserId};
use crate::verify::{Event, Fact, History, Seen};

type Device<'h> = (&'h UserId, &'h DeviceId);

/// A participant that reads.
struct Reader<'h> {
    device: Device<'h>,
    /// What it has joined on its present connection.
    joined: HashMap<&'h Room, Reading>,
}

/// One room on one connection.
struct Reading {
    /// The place in the truth of what must come next.
    next: usize,
    /// The number up to which it has come, by its own account.
    reached: u64,
    /// Places that were passed over: missing, unless they come after all.
    passed: BTreeSet<usize>,
}

/// Up to where a device may have saved.
type Limits<'h> = HashMap<(Device<'h>, &'h Room), u64>;

struct Check<'a, 'h> {
    index: &'a Index<'h>,
    limits: Limits<'h>,
    found: &'a mut Found,
}

pub(super) fn check<'h>(history: &'h History, index: &Index<'h>, found: &mut Found) {
    let mut readers: HashMap<&str, Reader<'h>> = HashMap::new();
    let mut check = Check { index, limits: HashMap::new(), found };
    for event in &history.events {
        if let Fact::Subscriber { user, device } = &event.fact {
            readers.insert(&event.who, Reader { device: (user, device), joined: HashMap::new() });
        } else if let Some(reader) = readers.get_mut(&*event.who) {
            check.take(reader, event);
        }
    }
    let mut still: Vec<_> = readers.into_iter().collect();
    still.sort_unstable_by_key(|(who, _)| *who);
    for (who, reader) in still {
        for (room, mut reading) in reader.joined {
            // The final state is complete: whoever is still there has everything.
            reading.pass_to(index.rooms.get(room).map_or(0, |of| of.truth.len()));
            check.end(who, room, reading);
        }
    }
    let saved = history.events.iter();
    saved.for_each(|event| check.saved(event));
}

impl<'h> Check<'_, 'h> {
    fn take(&mut self, reader: &mut Reader<'h>, event: &'h Event) {
        let who = &*event.who;
        match &event.fact {
            Fact::Connected | Fact::Disconnected | Fact::Crashed => {
                reader.joined.drain().for_each(|(room, reading)| self.end(who, room, reading));
            }
            Fact::Joined { room, asked, resume, since, .. } => {
                reader.joined.remove(room).into_iter().for_each(|reading| self.end(who, room, reading));
                self.joined(who, reader.device, room, (*asked, *resume, *since));
                self.begin(who, reader, room, *since);
            }
            Fact::Reset { room, from, .. } => {
                reader.joined.remove(room).into_iter().for_each(|reading| self.end(who, room, reading));
                self.allow(reader.device, room, from.seq);
                self.begin(who, reader, room, *from);
            }
            Fact::Left { room } => {
                reader.joined.remove(room).into_iter().for_each(|reading| self.end(who, room, reading));
            }
            Fact::Acked { room, seq } => self.allow(reader.device, room, *seq),
            Fact::Delivered { seen, .. } => match (self.index.rooms.get(&seen.room), reader.joined.get_mut(&seen.room))
            {
                (Some(of), Some(reading)) => self.delivered(who, of, reading, seen),
                (None, _) => self.found.entry(ViolationKind::Invented, seen, format!("{who} got it of no room")),
                (_, None) => self.found.entry(ViolationKind::DeliveredTwice, seen, format!("{who} had not joined")),
            },
            Fact::Live { room, seq } => {
                let Some(reading) = reader.joined.get_mut(room) else { return };
                let of = self.index.rooms.get(room);
                self.live(who, room, (reading.reached, *seq), of.map_or(0, |of| of.last_seq));
                if let Some(of) = of {
                    reading.pass_to(last_message_up_to(of, *seq));
                }
            }
            _ => {}
        }
    }

    fn begin(&mut self, who: &str, reader: &mut Reader<'h>, room: &'h Room, since: Cursor) {
        let mut next = 0;
        if let Some(of) = self.index.rooms.get(room) {
            next = of.after(since.id);
            let number = next.checked_sub(1).map_or(0, |before| of.truth[before].seq);
            if number != since.seq && !of.has_losses() {
                let message = format!("room {room}: {who} began after {since}, where the log has number {number}");
                self.found.add(ViolationKind::SeqAltered, Some(room), Some(since.id), message);
            }
        }
        reader.joined.insert(room, Reading { next, reached: since.seq, passed: BTreeSet::new() });
    }

    /// Where the catch-up is said to be complete is where it has come. What lies between the two is missing, and
    /// told as such, if it was ever there.
    fn live(&mut self, who: &str, room: &Room, (reached, seq): (u64, u64), last: u64) {
        if seq < reached || (seq > reached && seq > last) {
            let message = format!("room {room}: {who} is live from {seq}, and had come to {reached} of {last}");
            self.found.add(ViolationKind::SeqAltered, Some(room), None, message);
        }
    }

    /// Where delivery begins is where it may.
    fn joined(&mut self, who: &str, device: Device<'h>, room: &'h Room, how: (Option<Since>, Resume, Cursor)) {
        let (asked, resume, since) = how;
        match (asked, resume) {
            (None, Resume::Resumed) => {
                let limit = self.limits.get(&(device, room)).copied().unwrap_or_default();
                if since.seq > limit {
                    let message =
                        format!("room {room}: {who} was resumed after {since}, and has acknowledged up to {limit}");
                    self.found.add(ViolationKind::CursorAhead, Some(room), Some(since.id), message);
                }
            }
            // It asked for everything, or after a cursor, and nothing announces that some was left out.
            (Some(Since::Start), Resume::Fresh | Resume::Resumed) => self.left_out(who, room, Cursor::START, since),
            (Some(Since::Cursor(cursor)), Resume::Resumed) => self.left_out(who, room, cursor, since),
            _ => {}
        }
        if asked.is_some() || resume != Resume::Resumed {
            self.allow(device, room, since.seq);
        }
    }

    fn left_out(&mut self, who: &str, room: &Room, asked: Cursor, since: Cursor) {
        let Some(of) = self.index.rooms.get(room) else { return };
        for seen in &of.truth[of.after(asked.id).min(of.after(since.id))..of.after(since.id)] {
            let message = format!("{who} asked for what follows {asked} and began after {since}");
            self.found.entry(ViolationKind::MissingAtSubscriber, seen, message);
        }
    }

    fn allow(&mut self, device: Device<'h>, room: &'h Room, seq: u64) {
        let limit = self.limits.entry((device, room)).or_default();
        *limit = (*limit).max(seq);
    }

    fn delivered(&mut self, who: &str, of: &InRoom<'h>, reading: &mut Reading, seen: &Seen) {
        reading.reached = reading.reached.max(seen.seq);
        let Some(place) = of.find(seen.id) else { return self.unknown(who, of, seen) };
        for (kind, how) in differences(of.truth[place], seen) {
            self.found.entry(kind, of.truth[place], format!("{who} got {how}"));
        }
        if place >= reading.next {
            reading.pass_to(place);
            reading.next = place + 1;
        } else if reading.passed.remove(&place) {
            self.found.entry(ViolationKind::OrderBroken, seen, format!("{who} got it after a later one"));
        } else {
            self.found.entry(ViolationKind::DeliveredTwice, seen, format!("{who} got it again on one connection"));
        }
    }

    /// What neither the log nor the archive holds.
    fn unknown(&mut self, who: &str, of: &InRoom<'h>, seen: &Seen) {
        if of.is_lost(seen.id) {
            return;
        }
        match key(seen).and_then(|key| of.sends.get(&key)) {
            None => self.found.entry(ViolationKind::Invented, seen, format!("{who} got it, and it was never there")),
            // An acknowledged one is missing whoever got it, and is told as such.
            Some(sent) if sent.accepted.iter().any(|answer| answer.id == seen.id) => {}
            Some(_) => {
                self.found.entry(ViolationKind::MissingInLog, seen, format!("{who} got it, and it is not there"));
            }
        }
    }

    fn end(&mut self, who: &str, room: &Room, reading: Reading) {
        let Some(of) = self.index.rooms.get(room) else { return };
        for place in reading.passed {
            let seen = of.truth[place];
            self.found.entry(ViolationKind::MissingAtSubscriber, seen, format!("{who} never got it"));
        }
    }

    /// A saved cursor is not further than its device's acknowledgements, in number and in place.
    fn saved(&mut self, event: &'h Event) {
        let Fact::Saved { user, device, room, cursor } = &event.fact else { return };
        let limit = self.limits.get(&((user, device), room)).copied().unwrap_or_default();
        let place = self.index.rooms.get(room).and_then(|of| Some(of.truth[of.after(cursor.id).checked_sub(1)?].seq));
        if cursor.seq.max(place.unwrap_or_default()) > limit {
            let message =
                format!("room {room}: the cursor of {user}/{device} is {cursor}, acknowledged is up to {limit}");
            self.found.add(ViolationKind::CursorAhead, Some(room), Some(cursor.id), message);
        }
    }
}

impl Reading {
    /// What stands before `place` and has not come is passed over.
    fn pass_to(&mut self, place: usize) {
        self.passed.extend(self.next..place);
        self.next = self.next.max(place);
    }
}

/// The place after the message with this number, or after the last one before it. Events that follow it may
/// come later, and so may another message that was given the same number.
fn last_message_up_to(of: &InRoom<'_>, seq: u64) -> usize {
    let begin = of.truth.partition_point(|seen| seen.seq < seq);
    let with_it = of.truth[begin..].iter().take_while(|seen| seen.seq == seq);
    match with_it.map(|seen| key(seen).is_some()).position(|is_message| is_message) {
        Some(place) => begin + place + 1,
        None => of.truth[..begin].iter().rposition(|seen| key(seen).is_some()).map_or(0, |place| place + 1),
    }
}
