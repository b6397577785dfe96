//! The log read forwards, once for all that wait for it.
//!
//! # Design
//! Requests go along with the scan from their own cursors on. Where none is under way the scan
//! jumps to the next cursor, so cursors that are far apart cost two scans and not one long one.

use std::collections::HashMap;

use super::page::{Bounds, Draft, Reach};
use super::reading::{Reading, Shape};
use super::window::whole;
use crate::error::Result;
use crate::model::{EntryId, Room};
use crate::stream::{LogEntry, Redis};

/// Entries of one read at most: Redis answers nobody else meanwhile, for a millisecond or two.
const STEP_ENTRIES_MAX: u64 = 1_000;
/// Bytes of one read, about: a partition of large messages is read in smaller steps.
const STEP_BYTES: u64 = 4 << 20;
/// Bytes of the first read, about, if its entries are as large as those that were read last: a page may need no more.
const FIRST_STEP_BYTES: u64 = 1 << 20;
/// Bytes that the pages of one scan hold before they are sent as they are.
const PAGES_BYTES_MAX: usize = 64 << 20;
/// By how much a request may exceed its budget when it can't be answered in part.
pub(super) const PATIENCE: u64 = 16;

/// What a scan may cost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    /// How much a page may hold.
    pub(super) page: Bounds,
    /// Entries of the log for one request.
    pub(super) budget: u64,
}

/// Reads the log for all `readings` that have a place to read it from, until each has its page, its
/// room's end, or has used up its budget. Gives the number of entries read.
pub(super) async fn walk(
    redis: &Redis,
    key: &str,
    log_end: EntryId,
    cost: Cost,
    readings: &mut [&mut Reading],
) -> Result<u64> {
    let mut rooms: HashMap<Room, Vec<usize>> = HashMap::new();
    for (index, reading) in readings.iter_mut().enumerate() {
        let position = reading.position;
        reading.draft(cost.page);
        reading.settle(position, log_end, false);
        rooms.entry(reading.room.clone()).or_default().push(index);
    }
    let (mut scanned, mut count) = (0, first_count(redis.entry_bytes()));
    while let Some(after) = readings.iter().filter(|r| r.reach.is_none()).map(|r| r.position).min() {
        let read = redis.scan(key, after.next(), count, |raw| hand_out(raw, &rooms, readings, cost.page)).await?;
        let ended = read.ended;
        let upto = read.last.unwrap_or(after);
        let upto = if ended { upto.max(log_end) } else { upto };
        let heavy = readings.iter().filter_map(|r| r.draft.as_ref()).map(Draft::bytes).sum::<usize>() > PAGES_BYTES_MAX;
        for reading in readings.iter_mut().filter(|r| r.reach.is_none() && (ended || r.position < upto)) {
            reading.cost += read.entries;
            reading.settle(upto, log_end, ended);
            if reading.reach.is_none() && (heavy || is_spent(reading, cost.budget)) {
                reading.reach = Some(Reach::Part(upto));
            }
        }
        scanned += read.entries;
        count = next_count(read.bytes as u64, read.entries);
    }
    Ok(scanned)
}

fn hand_out(raw: &LogEntry<'_>, rooms: &HashMap<Room, Vec<usize>>, readings: &mut [&mut Reading], page: Bounds) {
    let Some((room, waiting)) = raw.room().and_then(|room| rooms.get_key_value(room)) else { return };
    let wants = |readings: &[&mut Reading], index: usize| readings[index].wants(raw.id());
    let Some(last) = waiting.iter().rposition(|index| wants(readings, *index)) else { return };
    // A damaged entry is the archive's to park; here its number is missing, and that is seen.
    let Ok(entry) = whole(raw, room) else { return };
    for index in &waiting[..last] {
        if wants(readings, *index) {
            readings[*index].draft(page).take(entry.clone());
        }
    }
    readings[waiting[last]].draft(page).take(entry);
}

/// Whether a request has cost enough. A join whose cursor nothing has proved yet and a page of
/// history are worth more: they can't be answered in part.
fn is_spent(reading: &Reading, budget: u64) -> bool {
    let partial = match reading.shape {
        Shape::Page => true,
        Shape::Joined => reading.draft.as_ref().is_some_and(|draft| draft.begin().is_some()),
        Shape::History { .. } => false,
    };
    reading.cost >= if partial { budget } else { budget.saturating_mul(PATIENCE) }
}

/// By the size of the entries that were read last; before the first read, half of the most, which is bounded too.
fn first_count(entry_bytes: u64) -> u64 {
    (FIRST_STEP_BYTES / entry_bytes.max(1)).clamp(20, STEP_ENTRIES_MAX / 2)
}

fn next_count(bytes: u64, entries: u64) -> u64 {
    let each = (bytes / entries.max(1)).max(1);
    (STEP_BYTES / each).clamp(20, STEP_ENTRIES_MAX)
}

impl Reading {
    /// Whether the entry with this id is still to be read.
    fn wants(&self, id: EntryId) -> bool {
        self.reach.is_none() && id > self.position && self.draft.as_ref().is_none_or(|draft| !draft.is_closed())
    }
}
