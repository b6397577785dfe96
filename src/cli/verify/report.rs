//! What was found, for people and for scripts.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::ending::Outcome;
use crate::cli::output::{self, or_dash, printable};
use crate::model::{EntryId, Room};
use crate::verify::{Seen, Violation, ViolationKind};

/// Differences that are told in full: more are counted only, so that memory stays small.
const TOLD_MAX: usize = 1_000;

/// Counts and differences.
#[derive(Default)]
pub(super) struct Report {
    /// Entries that were compared.
    pub(super) entries: u64,
    /// Entries read from the log, from the archive, lines of the account.
    pub(super) log: u64,
    pub(super) archive: u64,
    pub(super) account: u64,
    /// Beyond the archive's checkpoint.
    pub(super) not_archived_yet: u64,
    /// Beyond the endpoint's checkpoint.
    pub(super) not_called_yet: u64,
    /// Below the log's beginning.
    pub(super) only_archive: u64,
    /// Among the dead letters.
    pub(super) parked: u64,
    /// Items that the endpoint got once more, and knew it.
    pub(super) repeated: u64,
    told: Vec<Violation>,
    by_kind: BTreeMap<ViolationKind, u64>,
}

impl Report {
    pub(super) fn agrees(&self) -> bool {
        self.by_kind.is_empty()
    }

    pub(super) fn entry(&mut self, kind: ViolationKind, seen: &Seen, message: String) {
        let message = format!("seq {}: {message}", seen.seq);
        self.differs(kind, &seen.room, Some(seen.id), message);
    }

    pub(super) fn differs(&mut self, kind: ViolationKind, room: &Room, id: Option<EntryId>, message: String) {
        *self.by_kind.entry(kind).or_default() += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(Violation { kind, room: Some(room.clone()), id, message });
        }
    }

    pub(super) fn json(&self) -> Value {
        let kinds: BTreeMap<&str, u64> = self.by_kind.iter().map(|(kind, count)| (kind.as_str(), *count)).collect();
        json!({
            "agrees": self.agrees(),
            "entries": self.entries,
            "read": { "log": self.log, "archive": self.archive, "account": self.account },
            "not_archived_yet": self.not_archived_yet,
            "not_called_yet": self.not_called_yet,
            "only_archive": self.only_archive,
            "parked": self.parked,
            "repeated": self.repeated,
            "kinds": kinds,
            "differences": self.told,
        })
    }

    pub(super) fn show(&self) -> Outcome {
        let notes = [
            (self.not_archived_yet, "not archived yet"),
            (self.not_called_yet, "not called back yet"),
            (self.only_archive, "only in the archive: the log is trimmed there"),
            (self.parked, "parked: see millstream dead list"),
            (self.repeated, "taken again by the endpoint, which knew it"),
        ];
        output::line(format!("compared {}", output::count(self.entries, "entry", "entries")))?;
        for (count, what) in notes.into_iter().filter(|(count, _)| *count > 0) {
            output::line(format!("  {count} {what}"))?;
        }
        if self.agrees() {
            return output::line("they agree");
        }
        let mut table = output::table(&["difference", "room", "id", "what"]);
        for one in &self.told {
            let room = or_dash(one.room.as_ref());
            table.add_row([one.kind.to_string(), room, or_dash(one.id), printable(&one.message)]);
        }
        output::show(&table)?;
        let all: u64 = self.by_kind.values().sum();
        if all > self.told.len() as u64 {
            output::line(format!("and {} more", all - self.told.len() as u64))?;
        }
        output::line(output::count(all, "difference", "differences"))
    }
}
