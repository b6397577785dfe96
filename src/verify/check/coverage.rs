//! Has what a run was to test happened in it?

use std::collections::HashSet;

use crate::model::Resume;
use crate::verify::{Fact, History, Name, Signal};

/// That everything was drained and collected: always required.
pub(super) const FINAL_STATE: &str = "final-state";

/// What is required and did not happen.
pub(super) fn missing(history: &History, required: &[Name]) -> Vec<Name> {
    let mut happened: HashSet<Name> = HashSet::new();
    for event in &history.events {
        if let Some(what) = occurrence(&event.fact) {
            happened.insert(what.into());
        }
        match &event.fact {
            Fact::Fault { name, on: true } => happened.extend(["fault".into(), format!("fault:{name}").into()]),
            Fact::Happened { what } => happened.extend([what.clone()]),
            _ => {}
        }
    }
    let all = std::iter::once(Name::from(FINAL_STATE)).chain(required.iter().cloned());
    all.filter(|what| !happened.contains(what)).collect()
}

fn occurrence(fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::Collected => FINAL_STATE,
        Fact::Invoked { attempt: 2.., .. } => "retry",
        Fact::Accepted { duplicate: true, .. } => "duplicate",
        Fact::Unanswered { .. } => "unanswered",
        Fact::Delivered { replay: true, .. } => "catch-up",
        Fact::Reset { .. } | Fact::Joined { resume: Resume::Reset, .. } => "reset",
        Fact::Crashed => "crash",
        Fact::Called { status: 0..=199 | 300.., .. } => "callback-retry",
        Fact::Exited { asked: Signal::Kill, .. } => "kill",
        Fact::Exited { asked: Signal::Term, .. } => "stop",
        _ => return None,
    })
}
