//! One partition, along the ids: a page of the log, then what the archive has of the same stretch.

use std::collections::HashMap;

use super::account::{Items, seen_in};
use super::report::Report;
use super::{Checkpoints, Pace, Parked, VerifyArgs};
use crate::cli::ending::Outcome;
use crate::cli::item;
use crate::cli::settings::Installation;
use crate::error::Result;
use crate::model::{Entry, EntryId, PartitionId, Room};
use crate::store::{Range, Store};
use crate::verify::check::{Density, Pair, Pairing, differences};
use crate::verify::{Seen, ViolationKind};

/// Entries of one page of the log, and of one of the archive.
const PAGE_ENTRIES: u32 = 500;

/// What is walked.
pub(super) struct Walk<'a> {
    pub(super) here: &'a Installation,
    pub(super) store: &'a Store,
    pub(super) partition: PartitionId,
    pub(super) checkpoints: Checkpoints,
    pub(super) parked: &'a Parked,
    pub(super) after: EntryId,
    pub(super) until: EntryId,
    pub(super) args: &'a VerifyArgs,
}

/// A page of the log.
struct Stretch {
    log: Vec<Seen>,
    /// Everything up to here is in it.
    upto: EntryId,
    /// Where the log began after it was read.
    floor: EntryId,
}

impl Walk<'_> {
    /// Walks all of it.
    pub(super) async fn run(&self, mut items: Option<Items>, pace: &mut Pace, report: &mut Report) -> Outcome {
        let mut rooms: HashMap<Room, Density> = HashMap::new();
        let mut position = self.after;
        while position < self.until {
            let stretch = self.stretch(position, pace, report).await?;
            let (upto, floor) = (stretch.upto, stretch.floor);
            let mut pairing = Pairing::default();
            pairing.feed_first(stretch.log, true);
            let mut archived = position;
            while archived < upto {
                let page = self.archive_page(archived, upto, pace).await?;
                let ended = page.len() < PAGE_ENTRIES as usize;
                archived = page.last().filter(|_| !ended).map_or(upto, |last| last.id);
                report.archive += page.len() as u64;
                let page = page.iter().map(|entry| self.seen(entry)).collect::<Result<Vec<Seen>>>()?;
                pairing.feed_second(page, ended);
                while let Some(pair) = pairing.step() {
                    self.compare(pair, floor, &mut rooms, items.as_mut(), report);
                }
            }
            // The last page may have been a full one: then nobody has said yet that it ended.
            pairing.feed_second([], true);
            while let Some(pair) = pairing.step() {
                self.compare(pair, floor, &mut rooms, items.as_mut(), report);
            }
            position = upto;
        }
        for (room, density) in rooms {
            for (first, last) in density.finish() {
                let message = format!("no message has number {first} to {last}, but later ones are there");
                report.differs(ViolationKind::SeqGap, &room, None, message);
            }
        }
        if let Some(items) = items {
            items.finish(self.after, self.until, |room| self.args.concerns(room), report);
        }
        Ok(())
    }

    async fn stretch(&self, after: EntryId, pace: &mut Pace, report: &mut Report) -> Result<Stretch> {
        let key = self.here.redis.keys().log(self.partition);
        let raw = self.here.redis.range(&key, after.next(), self.until, u64::from(PAGE_ENTRIES)).await?;
        let floor = self.here.redis.first_id(&key).await?.unwrap_or(EntryId::MAX);
        pace.take(raw.len()).await;
        let ended = raw.len() < PAGE_ENTRIES as usize;
        let upto = raw.last().filter(|_| !ended).map_or(self.until, |last| last.id);
        report.log += raw.len() as u64;
        let mut log = Vec::with_capacity(raw.len());
        for raw in raw {
            let (id, room) = (raw.id, raw.text("r").and_then(|room| Room::new(room).ok()));
            match raw.into_entry().and_then(|entry| self.seen(&entry)) {
                Ok(seen) => log.push(seen),
                Err(error) => {
                    let room = room.unwrap_or_else(Room::all);
                    report.differs(ViolationKind::BodyAltered, &room, Some(id), format!("the log: {error}"));
                }
            }
        }
        Ok(Stretch { log, upto, floor })
    }

    async fn archive_page(&self, after: EntryId, upto: EntryId, pace: &mut Pace) -> Result<Vec<Entry>> {
        let range = Range::Partition(self.here.partitions, self.partition);
        let page = self.store.range(&range, after, upto, PAGE_ENTRIES).await?;
        pace.take(page.len()).await;
        Ok(page)
    }

    fn seen(&self, entry: &Entry) -> Result<Seen> {
        seen_in(&item::json_line(entry)?)
    }

    fn compare(
        &self,
        pair: Pair<Seen>,
        floor: EntryId,
        rooms: &mut HashMap<Room, Density>,
        items: Option<&mut Items>,
        report: &mut Report,
    ) {
        let seen = match &pair {
            Pair::Both(seen, _) | Pair::First(seen) | Pair::Second(seen) => seen,
        };
        if !self.args.concerns(&seen.room) {
            return;
        }
        report.entries += 1;
        match &pair {
            Pair::Both(log, archive) => {
                for (kind, how) in differences(log, archive) {
                    report.entry(kind, log, format!("the archive has {how}"));
                }
            }
            Pair::First(log) if log.id > self.checkpoints.archived => report.not_archived_yet += 1,
            Pair::First(log) if self.parked.archive.contains(&(self.partition, log.id)) => report.parked += 1,
            Pair::First(log) => {
                report.entry(ViolationKind::MissingInArchive, log, "the log holds it, the archive does not".into());
            }
            Pair::Second(archive) if archive.id < floor => report.only_archive += 1,
            Pair::Second(archive) => {
                report.entry(ViolationKind::MissingInLog, archive, "the archive holds it, the log does not".into());
            }
        }
        let density = rooms.entry(seen.room.clone()).or_insert_with(Density::from_anywhere);
        if let Some(kind) = density.next(seen) {
            report.entry(kind, seen, "its number does not fit to the entries before it".into());
        }
        if let Some(items) = items {
            self.called(seen, items, report);
        }
    }

    /// What the endpoint has of an entry.
    fn called(&self, seen: &Seen, items: &mut Items, report: &mut Report) {
        let place = (self.partition, seen.id);
        match items.take(seen.id) {
            Some(item) => item.compare(seen, report),
            None if !self.args.is_wanted(seen) => {}
            None if seen.id > self.checkpoints.called => report.not_called_yet += 1,
            None if self.parked.endpoint.contains(&place) => report.parked += 1,
            None => {
                report.entry(ViolationKind::MissingAtEndpoint, seen, "the endpoint's account does not have it".into());
            }
        }
    }
}
