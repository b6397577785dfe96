//! Is everything settled, did every process end as it was asked, and do the metrics agree?

use std::collections::BTreeMap;

use super::index::Index;
use super::{Found, Rules, ViolationKind};
use crate::verify::{Fact, History, Signal};

/// What has happened, as the history tells it.
#[derive(Default)]
struct Counts {
    invoked: u64,
    accepted: u64,
    duplicate: u64,
    delivered: u64,
    called: u64,
    rows: u64,
    dead: u64,
}

/// What a metric may be. The lower bound holds only where no killed process took its count along.
struct Bounds {
    name: &'static str,
    least: fn(&Counts) -> u64,
    most: fn(&Counts) -> u64,
}

const UNBOUNDED: fn(&Counts) -> u64 = |_| u64::MAX;

/// Metrics that count what a history counts too.
const COUNTED: &[Bounds] = &[
    // An answer may be lost on its way to the client, but each follows a send.
    Bounds { name: "millstream_sends_accepted_total", least: |c| c.accepted, most: |c| c.invoked },
    Bounds { name: "millstream_sends_duplicate_total", least: |c| c.duplicate, most: |c| c.invoked },
    Bounds { name: "millstream_deliveries_total", least: |c| c.delivered, most: UNBOUNDED },
    Bounds { name: "millstream_callback_attempts_total", least: |c| c.called, most: UNBOUNDED },
    Bounds { name: "millstream_group_parked_total", least: |c| c.dead, most: UNBOUNDED },
    Bounds { name: "millstream_archive_rows_total", least: |_| 0, most: |c| c.rows },
    Bounds { name: "millstream_panics_total", least: |_| 0, most: |_| 0 },
];

/// Rows that an unclear commit had written already are counted as duplicates when it is repeated.
const ROWS: [&str; 2] = ["millstream_archive_rows_total", "millstream_archive_duplicates_total"];

pub(super) fn check(history: &History, index: &Index<'_>, rules: &Rules, found: &mut Found) {
    let mut counts = Counts { rows: index.rooms.values().map(|of| of.archive.len() as u64).sum(), ..Counts::default() };
    let mut metrics: BTreeMap<&str, (f64, bool)> = BTreeMap::new();
    for event in &history.events {
        match &event.fact {
            Fact::Invoked { .. } => counts.invoked += 1,
            Fact::Accepted { duplicate, .. } => {
                counts.accepted += 1;
                counts.duplicate += u64::from(*duplicate);
            }
            Fact::Delivered { .. } => counts.delivered += 1,
            Fact::Called { .. } => counts.called += 1,
            Fact::Metric { name, value, whole, .. } => {
                let (sum, all_whole) = metrics.entry(name).or_insert((0.0, true));
                *sum += value;
                *all_whole &= whole;
            }
            other => {
                counts.dead += u64::from(matches!(other, Fact::Dead { .. }));
                state(other, rules, found);
            }
        }
    }
    for bounds in COUNTED {
        if let Some((value, whole)) = metrics.get(bounds.name) {
            let least = if *whole { (bounds.least)(&counts) } else { 0 };
            within(bounds.name, *value, least, (bounds.most)(&counts), found);
        }
    }
    if let [Some((rows, true)), Some((duplicates, true))] = ROWS.map(|name| metrics.get(name)) {
        within("archive rows and duplicates", rows + duplicates, counts.rows, u64::MAX, found);
    }
}

// No run counts up to 2^53, where a float begins to be coarse.
fn within(name: &str, value: f64, least: u64, most: u64, found: &mut Found) {
    if value < least as f64 || value > most as f64 {
        let most = if most == u64::MAX { "more".to_owned() } else { most.to_string() };
        let message = format!("{name} is {value}: the history shows {least} to {most}");
        found.add(ViolationKind::MetricsDisagree, None, None, message);
    }
}

fn state(fact: &Fact, rules: &Rules, found: &mut Found) {
    match fact {
        Fact::Pending { group, count } if *count > 0 => {
            found.add(ViolationKind::PendingLeft, None, None, format!("{group} has {count} entries left to settle"));
        }
        Fact::Dead { group, room, id, reason } if !rules.dead_allowed => {
            let message = format!("{group} gave up {id} of room {room}: {reason}");
            found.add(ViolationKind::DeadLeft, Some(room), Some(*id), message);
        }
        Fact::Exited { process, asked: Signal::Term, took_ms, grace_ms, status }
            if took_ms > grace_ms || *status != Some(0) =>
        {
            let status = status.map_or_else(|| "no exit code".to_owned(), |code| format!("exit code {code}"));
            let message = format!("{process} ended {took_ms} ms after SIGTERM ({grace_ms} ms are allowed), {status}");
            found.add(ViolationKind::SlowStop, None, None, message);
        }
        Fact::LogText { process, kind, text } if &**kind == "panic" => {
            found.add(ViolationKind::Panic, None, None, format!("{process}: {text}"));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::names;

    #[test]
    fn every_metric_that_is_compared_exists() {
        for name in COUNTED.iter().map(|bounds| bounds.name).chain(ROWS) {
            assert!(names::ALL.iter().any(|metric| metric.name == name), "{name}");
        }
    }
}
