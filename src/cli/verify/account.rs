//! What an endpoint accepted: a file of JSON lines, kept as its ids and digests.
//!
//! The lines stand in the order of acceptance, the walk goes along the ids: so the file is read once
//! and of each line some hundred bytes stay, not its body.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::report::Report;
use crate::cli::ending::Outcome;
use crate::error::{Error, Kind, Result};
use crate::model::{Cid, DeviceId, EntryId, PartitionId, Partitions, Room, UserId};
use crate::verify::check::differences;
use crate::verify::{Content, Digest, Seen, ViolationKind};

/// One line.
#[derive(Deserialize)]
struct Line {
    id: String,
    #[serde(default)]
    replay: bool,
    #[serde(default)]
    duplicate: bool,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    data: Value,
}

/// An item that was accepted.
pub(super) struct Item {
    seen: Seen,
}

/// The items of one partition that the walk has not come to, along the ids.
#[derive(Default)]
pub(super) struct Items(BTreeMap<EntryId, Item>);

/// All of it.
pub(super) struct Account {
    partitions: HashMap<PartitionId, Items>,
}

impl Account {
    /// Reads the file; says what is wrong with the lines among themselves: ids, repeats, order.
    pub(super) fn read(path: &Path, partitions: Partitions, report: &mut Report) -> Outcome<Self> {
        let unreadable = |e| Error::new(Kind::Invalid, format!("read the account {}", path.display())).caused_by(e);
        let file = File::open(path).map_err(unreadable)?;
        let mut account = Self { partitions: HashMap::new() };
        let mut last: HashMap<Room, EntryId> = HashMap::new();
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(unreadable)?;
            if line.trim().is_empty() {
                continue;
            }
            let wrong = |why: String| Error::invalid(format!("read line {} of {}: {why}", number + 1, path.display()));
            let line: Line = serde_json::from_str(&line).map_err(|e| wrong(e.to_string()))?;
            if line.body.data.get("batch").is_some() {
                continue; // A batch repeats what has been called back one by one.
            }
            let seen = seen_of(line.body.data).map_err(|e| wrong(e.to_string()))?;
            let partition = partitions.of(&seen.room);
            report.account += 1;
            account.add(partition, line.id, (line.replay, line.duplicate), seen, &mut last, report);
        }
        Ok(account)
    }

    fn add(
        &mut self,
        partition: PartitionId,
        webhook_id: String,
        (replay, duplicate): (bool, bool),
        seen: Seen,
        last: &mut HashMap<Room, EntryId>,
        report: &mut Report,
    ) {
        let expected = format!("msg_{partition}_{}", seen.id);
        if webhook_id != expected {
            let message = format!("the account has it as {webhook_id}, it is {expected}");
            report.entry(ViolationKind::WebhookIdUnstable, &seen, message);
        }
        let items = self.partitions.entry(partition).or_default();
        if items.0.contains_key(&seen.id) {
            // At least once: an endpoint that knows it got it again has done what it should.
            if duplicate || replay {
                report.repeated += 1;
            } else {
                report.entry(ViolationKind::DeliveredTwice, &seen, "the account has it twice".into());
            }
            return;
        }
        let before = last.entry(seen.room.clone()).or_default();
        if seen.id < *before && !replay {
            report.entry(ViolationKind::OrderBroken, &seen, format!("the account has it after {before}"));
        }
        *before = seen.id.max(*before);
        items.0.insert(seen.id, Item { seen });
    }

    /// The items of a partition.
    pub(super) fn take(&mut self, partition: PartitionId) -> Items {
        self.partitions.remove(&partition).unwrap_or_default()
    }
}

impl Items {
    /// The item with this id.
    pub(super) fn take(&mut self, id: EntryId) -> Option<Item> {
        self.0.remove(&id)
    }

    /// What is left in the range was never in the log.
    pub(super) fn finish(self, after: EntryId, until: EntryId, concerns: impl Fn(&Room) -> bool, report: &mut Report) {
        let within = self.0.into_values().filter(|item| item.seen.id > after && item.seen.id <= until);
        for item in within.filter(|item| concerns(&item.seen.room)) {
            let message = "the account has it, neither log nor archive does";
            report.entry(ViolationKind::Invented, &item.seen, message.into());
        }
    }
}

impl Item {
    /// What differs from what is stored.
    pub(super) fn compare(&self, stored: &Seen, report: &mut Report) {
        for (kind, how) in differences(stored, &self.seen) {
            report.entry(kind, stored, format!("the account has {how}"));
        }
    }
}

/// A frame with `room`, as text.
pub(super) fn seen_in(frame: &[u8]) -> Result<Seen> {
    seen_of(serde_json::from_slice(frame).map_err(|e| Error::new(Kind::Corrupt, "read a frame").caused_by(e))?)
}

/// What a `message` or `event` frame shows. The digest is of all that it holds but its place.
fn seen_of(mut frame: Value) -> Result<Seen> {
    let lacks = |what: &str| Error::new(Kind::Corrupt, format!("read a frame: no {what}"));
    let text = |frame: &Value, name: &str| frame.get(name).and_then(Value::as_str).map(str::to_owned);
    let room = Room::new(&text(&frame, "room").ok_or_else(|| lacks("room"))?)?;
    let id = text(&frame, "id").ok_or_else(|| lacks("id"))?.parse()?;
    let seq = frame.get("seq").and_then(Value::as_u64).ok_or_else(|| lacks("seq"))?;
    if let Some(fields) = frame.as_object_mut() {
        ["id", "seq", "at", "room"].iter().for_each(|name| drop(fields.remove(*name)));
    }
    let body = Digest::of_value(&frame);
    let content = if let Some(event) = text(&frame, "event") {
        Content::Event(format!("{event} {body}").into())
    } else {
        let name = |name: &str| text(&frame, name).ok_or_else(|| lacks(name));
        let (user, device) = (UserId::new(&name("user")?)?, DeviceId::new(&name("device")?)?);
        Content::Message { user, device, cid: Cid::new(&name("cid")?)?, body }
    };
    Ok(Seen { room, id, seq, content })
}
