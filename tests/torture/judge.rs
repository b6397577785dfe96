//! What a run has shown.

use std::path::{Path, PathBuf};

use millstream::model::Resume;
use millstream::verify::{Fact, History, Rules, Verdict, check};

use crate::run::Run;

/// What has to happen in a run of everything, or it shows nothing.
pub(crate) const REQUIRED: [&str; 13] = [
    "fault",
    "retry",
    "duplicate",
    "unanswered",
    "catch-up",
    "crash",
    "callback-retry",
    "kill",
    "take-over",
    "unclear-commit",
    "trim",
    "read-from-archive",
    "slow-reader",
];
/// Violations that are told; the others stand in the file.
const TOLD_MAX: usize = 20;

/// Judges a run in which all this has to happen: the checker's verdict, and what only a run can know to be wrong.
pub(crate) fn judge(run: &Run, required: &[&str]) -> (Verdict, Vec<String>) {
    let verdict = check(&run.history, &Rules::requiring(required));
    let mut more: Vec<String> = run.stuck.iter().map(|what| format!("stuck: {what}")).collect();
    more.extend(untrue_resets(&run.history));
    more.extend(unexpected_exits(&run.history));
    (verdict, more)
}

/// No fault of the run loses anything, so nobody may be told that something is lost.
fn untrue_resets(history: &History) -> impl Iterator<Item = String> {
    history.events.iter().filter_map(|event| match &event.fact {
        Fact::Joined { resume: Resume::Reset, .. } | Fact::Reset { .. } => {
            Some(format!("reset without a loss: {} at {} µs: {:?}", event.who, event.at_us, event.fact))
        }
        _ => None,
    })
}

/// A process that has been ready ends only when it is asked to.
fn unexpected_exits(history: &History) -> impl Iterator<Item = String> {
    history.events.iter().filter_map(|event| match &event.fact {
        Fact::LogText { process, kind, text } if &**kind == "unexpected-exit" => {
            Some(format!("{process} ended: {text}"))
        }
        _ => None,
    })
}

/// One word for scripts, and the whole of it for people. Keeps history, logs and violations unless valid.
pub(crate) fn tell(run: &Run, seed: u64, (verdict, more): &(Verdict, Vec<String>)) -> bool {
    let valid = *verdict == Verdict::Valid && more.is_empty();
    let mut lines: Vec<String> = more.clone();
    let word = match verdict {
        Verdict::Valid if more.is_empty() => "valid".to_owned(),
        Verdict::Unknown(missing) if more.is_empty() => {
            format!("unknown: these did not happen: {}", missing.join(", "))
        }
        Verdict::Valid | Verdict::Unknown(_) => "invalid".to_owned(),
        Verdict::Invalid(violations) => {
            lines.extend(violations.iter().map(ToString::to_string));
            let kinds: Vec<&str> = verdict.kinds().iter().map(|kind| kind.as_str()).collect();
            format!("invalid: {}", kinds.join(", "))
        }
    };
    for line in lines.iter().take(TOLD_MAX) {
        println!("  {line}");
    }
    if lines.len() > TOLD_MAX {
        println!("  and {} more", lines.len() - TOLD_MAX);
    }
    if !valid || std::env::var_os("MILLSTREAM_TORTURE_KEEP").is_some() {
        let folder = std::env::temp_dir().join(format!("millstream-torture-{seed}-{}", std::process::id()));
        println!("history, logs and violations: {}", keep(run, &lines, &folder).display());
    }
    println!("torture: seed {seed}: {word}");
    valid
}

/// Writes down all that there is of a run.
pub(crate) fn keep(run: &Run, lines: &[String], folder: &Path) -> PathBuf {
    std::fs::create_dir_all(folder).expect("a folder for temporary files");
    std::fs::write(folder.join("history.jsonl"), run.history.to_lines()).expect("a file there");
    std::fs::write(folder.join("violations.txt"), lines.join("\n")).expect("a file there");
    for (process, log) in &run.logs {
        std::fs::write(folder.join(format!("{process}.log")), log).expect("a file there");
    }
    folder.to_owned()
}
