//! Did each endpoint get what it wants, under one id, alike on each attempt, in order per room?

use std::collections::{HashMap, HashSet};

use super::index::{Index, key};
use super::pairing::differences;
use super::{Found, ViolationKind};
use crate::model::{EntryId, Room};
use crate::verify::{Content, Digest, Fact, History, Seen, Wants};

/// An endpoint and what came.
struct Called<'h> {
    group: &'h str,
    wants: Wants,
    rooms: &'h [Room],
    /// Each item's `webhook-id`.
    ids: HashMap<(&'h Room, EntryId), &'h str>,
    /// Each `webhook-id`'s item and body.
    items: HashMap<&'h str, (&'h Room, EntryId, Digest)>,
    accepted: HashSet<(&'h Room, EntryId)>,
    /// The last of each room that was accepted.
    last: HashMap<&'h Room, EntryId>,
}

/// One call.
struct Call<'h> {
    webhook_id: &'h str,
    bytes: Digest,
    accepted: bool,
    replay: bool,
    seen: &'h Seen,
}

pub(super) fn check<'h>(history: &'h History, index: &Index<'h>, found: &mut Found) {
    let mut endpoints: HashMap<&str, Called<'h>> = HashMap::new();
    for event in &history.events {
        match &event.fact {
            Fact::Endpoint { group, wants, rooms } => {
                endpoints.insert(&event.who, Called::new(group, *wants, rooms));
            }
            Fact::Called { webhook_id, bytes, status, replay, seen } => {
                if let Some(endpoint) = endpoints.get_mut(&*event.who) {
                    let accepted = (200..300).contains(status);
                    let call = Call { webhook_id, bytes: *bytes, accepted, replay: *replay, seen };
                    endpoint.take(&call, index, found);
                }
            }
            _ => {}
        }
    }
    let mut endpoints: Vec<_> = endpoints.into_values().collect();
    endpoints.sort_unstable_by_key(|endpoint| endpoint.group);
    endpoints.iter().for_each(|endpoint| endpoint.end(index, found));
}

impl<'h> Called<'h> {
    fn new(group: &'h str, wants: Wants, rooms: &'h [Room]) -> Self {
        let (ids, items) = (HashMap::new(), HashMap::new());
        Self { group, wants, rooms, ids, items, accepted: HashSet::new(), last: HashMap::new() }
    }

    fn take(&mut self, call: &Call<'h>, index: &Index<'h>, found: &mut Found) {
        let (seen, group) = (call.seen, self.group);
        let item = (&seen.room, seen.id);
        let id = *self.ids.entry(item).or_insert(call.webhook_id);
        let (room, at, bytes) = *self.items.entry(call.webhook_id).or_insert((item.0, item.1, call.bytes));
        if id != call.webhook_id {
            let message = format!("{group} got it as {id} and as {}", call.webhook_id);
            found.entry(ViolationKind::WebhookIdUnstable, seen, message);
        } else if (room, at) != item {
            let message = format!("{group} got it as {id}, like {at} of room {room}");
            found.entry(ViolationKind::WebhookIdUnstable, seen, message);
        } else if bytes != call.bytes {
            let message = format!("{group} got {id} with two bodies: {bytes} and {}", call.bytes);
            found.entry(ViolationKind::WebhookBodyUnstable, seen, message);
        }
        self.compare(seen, index, found);
        if call.accepted && self.accepted.insert(item) && !call.replay {
            let last = self.last.entry(item.0).or_default();
            if seen.id < *last {
                found.entry(ViolationKind::OrderBroken, seen, format!("{group} accepted it after {last}"));
            }
            *last = seen.id.max(*last);
        }
    }

    fn compare(&self, seen: &Seen, index: &Index<'h>, found: &mut Found) {
        let group = self.group;
        let Some(of) = index.rooms.get(&seen.room) else {
            return found.entry(ViolationKind::Invented, seen, format!("{group} got it of no room"));
        };
        if let Some(place) = of.find(seen.id) {
            for (kind, how) in differences(of.truth[place], seen) {
                found.entry(kind, of.truth[place], format!("{group} got {how}"));
            }
            return;
        }
        match key(seen).and_then(|key| of.sends.get(&key)) {
            _ if of.is_lost(seen.id) => {}
            None => found.entry(ViolationKind::Invented, seen, format!("{group} got it, and it was never there")),
            Some(sent) if sent.accepted.iter().any(|answer| answer.id == seen.id) => {}
            Some(_) => found.entry(ViolationKind::MissingInLog, seen, format!("{group} got it, and it is not there")),
        }
    }

    fn end(&self, index: &Index<'h>, found: &mut Found) {
        for (room, of) in &index.rooms {
            if !self.rooms.is_empty() && !self.rooms.contains(room) {
                continue;
            }
            for seen in &of.truth {
                let wanted = match (self.wants, &seen.content) {
                    (Wants::Everything, _) => true,
                    (Wants::Messages, content) => matches!(content, Content::Message { .. }),
                    (Wants::Events, content) => matches!(content, Content::Event(_)),
                };
                let has = self.accepted.contains(&(&seen.room, seen.id)) || of.is_lost(seen.id);
                if wanted && !has && !index.is_dead(self.group, room, seen.id) {
                    found.entry(ViolationKind::MissingAtEndpoint, seen, format!("{} never accepted it", self.group));
                }
            }
        }
    }
}
