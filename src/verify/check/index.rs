//! A history by room: what was sent, what is held, what is owed to nobody.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::{Cid, DeviceId, EntryId, Room, UserId};
use crate::verify::{Content, Digest, Event, Fact, History, Name, Seen};

/// Which message: the `cid` is unique per device.
pub(super) type Key<'h> = (&'h UserId, &'h DeviceId, &'h Cid);

/// The group whose dead letters the archive lacks.
pub(super) const ARCHIVE: &str = "archive";

/// All rooms and what belongs to none.
pub(super) struct Index<'h> {
    pub(super) rooms: BTreeMap<&'h Room, InRoom<'h>>,
    dead: HashSet<(&'h str, &'h Room, EntryId)>,
}

/// One room.
#[derive(Default)]
pub(super) struct InRoom<'h> {
    /// What the log holds, along the ids.
    pub(super) log: Vec<&'h Seen>,
    /// What the archive holds, along the ids.
    pub(super) archive: Vec<&'h Seen>,
    /// What one of them holds and somebody sent, along the ids; where they differ, the log's.
    pub(super) truth: Vec<&'h Seen>,
    /// The highest number there.
    pub(super) last_seq: u64,
    /// Before this, the log may have been trimmed.
    pub(super) floor: EntryId,
    pub(super) sends: HashMap<Key<'h>, Sent<'h>>,
    /// Where each message of `truth` stands: more than once is one too many.
    pub(super) places: HashMap<Key<'h>, Vec<EntryId>>,
    lost: Vec<(EntryId, EntryId)>,
}

/// A message as its publisher knows it.
pub(super) struct Sent<'h> {
    pub(super) who: &'h Name,
    /// Its place among the events of the history.
    pub(super) order: usize,
    /// When it left first.
    pub(super) invoked_us: u64,
    pub(super) attempts: u32,
    /// Attempts that were refused for good.
    pub(super) refused: u32,
    pub(super) bodies: Vec<Digest>,
    pub(super) accepted: Vec<Answer>,
}

/// A `sent`.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    pub(super) at_us: u64,
    pub(super) id: EntryId,
    pub(super) seq: u64,
}

impl<'h> Index<'h> {
    pub(super) fn new(history: &'h History) -> Self {
        let mut index = Self { rooms: BTreeMap::new(), dead: HashSet::new() };
        let mut publishers: HashMap<&str, (&UserId, &DeviceId)> = HashMap::new();
        for (order, event) in history.events.iter().enumerate() {
            if let Fact::Publisher { user, device } = &event.fact {
                publishers.insert(&event.who, (user, device));
            } else if let Some(device) = publishers.get(&*event.who) {
                index.take_send(event, order, *device);
            }
            index.take_state(event);
        }
        index.rooms.values_mut().for_each(InRoom::settle);
        index
    }

    fn room(&mut self, room: &'h Room) -> &mut InRoom<'h> {
        self.rooms.entry(room).or_default()
    }

    fn take_send(&mut self, event: &'h Event, order: usize, (user, device): (&'h UserId, &'h DeviceId)) {
        match &event.fact {
            Fact::Invoked { room, cid, body, .. } => {
                let sent = self.room(room).sends.entry((user, device, cid)).or_insert_with(|| Sent {
                    who: &event.who,
                    order,
                    invoked_us: event.at_us,
                    attempts: 0,
                    refused: 0,
                    bodies: Vec::new(),
                    accepted: Vec::new(),
                });
                sent.attempts += 1;
                if !sent.bodies.contains(body) {
                    sent.bodies.push(*body);
                }
            }
            Fact::Accepted { room, cid, id, seq, .. } => {
                if let Some(sent) = self.room(room).sends.get_mut(&(user, device, cid)) {
                    sent.accepted.push(Answer { at_us: event.at_us, id: *id, seq: *seq });
                }
            }
            Fact::Refused { room, cid, retryable: false, .. } => {
                if let Some(sent) = self.room(room).sends.get_mut(&(user, device, cid)) {
                    sent.refused += 1;
                }
            }
            _ => {}
        }
    }

    fn take_state(&mut self, event: &'h Event) {
        match &event.fact {
            Fact::Logged { seen, .. } => self.room(&seen.room).log.push(seen),
            Fact::Archived { seen } => self.room(&seen.room).archive.push(seen),
            Fact::Floor { room, id } => self.room(room).floor = *id,
            Fact::Lost { room, after, before } => self.room(room).lost.push((*after, *before)),
            Fact::Dead { group, room, id, .. } => {
                self.dead.insert((group, room, *id));
            }
            _ => {}
        }
    }

    /// Whether a group has given this entry up.
    pub(super) fn is_dead(&self, group: &str, room: &Room, id: EntryId) -> bool {
        !self.dead.is_empty() && self.dead.contains(&(group, room, id))
    }
}

impl<'h> InRoom<'h> {
    fn settle(&mut self) {
        self.log.sort_by_key(|seen| seen.id);
        self.archive.sort_by_key(|seen| seen.id);
        // The sort is stable: of two with one id, the log's comes first and stays.
        let all = self.log.iter().chain(&self.archive).copied();
        self.truth = all.filter(|seen| !self.is_invented(seen)).collect();
        self.truth.sort_by_key(|seen| seen.id);
        self.truth.dedup_by_key(|seen| seen.id);
        self.last_seq = self.truth.iter().map(|seen| seen.seq).max().unwrap_or_default();
        for seen in &self.truth {
            if let Some(key) = key(seen) {
                self.places.entry(key).or_default().push(seen.id);
            }
        }
    }

    /// Whether nobody sent this message. Events are nobody's.
    pub(super) fn is_invented(&self, seen: &Seen) -> bool {
        key(seen).is_some_and(|key| !self.sends.contains_key(&key))
    }

    /// Whether a fault may have taken what stood there.
    pub(super) fn is_lost(&self, id: EntryId) -> bool {
        self.lost.iter().any(|(after, before)| *after < id && id < *before)
    }

    /// Whether a fault may have taken anything of this room.
    pub(super) fn has_losses(&self) -> bool {
        !self.lost.is_empty()
    }

    /// The place in `truth` of this id.
    pub(super) fn find(&self, id: EntryId) -> Option<usize> {
        self.truth.binary_search_by_key(&id, |seen| seen.id).ok()
    }

    /// The place in `truth` of the first entry after this id.
    pub(super) fn after(&self, id: EntryId) -> usize {
        self.truth.partition_point(|seen| seen.id <= id)
    }
}

/// Which message an entry is; nothing for an event.
pub(super) fn key(seen: &Seen) -> Option<Key<'_>> {
    match &seen.content {
        Content::Message { user, device, cid, .. } => Some((user, device, cid)),
        Content::Event(_) => None,
    }
}
