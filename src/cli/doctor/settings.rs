//! The settings: mistakes, what some process lacks, what may surprise.

use super::report::Finding;
use crate::config::{Mistake, Process, Settings, Warning};
use crate::service::SettingsArgs;

const CHECK: &str = "settings";
const PROCESSES: [Process; 5] = [Process::Edge, Process::Api, Process::Archive, Process::Replay, Process::Callback];

/// The settings as far as they can be used, and what is wrong with them.
pub(super) fn check(flags: &SettingsArgs) -> (Settings, Vec<Finding>) {
    let tool = Settings::inspect(&flags.options(Process::Tool));
    let mut findings: Vec<Finding> = tool.mistakes.0.iter().map(mistake).collect();
    // What only some processes need may be given to these alone: a secret to the edge, for one.
    for process in PROCESSES {
        let seen = Settings::inspect(&flags.options(process));
        let lacks = seen.mistakes.0.iter().filter(|found| !tool.mistakes.0.contains(found));
        findings.extend(lacks.map(|found| lacking(found, process)));
        findings.extend(seen.warnings.iter().map(warning));
    }
    let mut told = std::collections::HashSet::new();
    findings.retain(|finding| told.insert(finding.what.clone()));
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "can be used"));
    }
    (tool.settings, findings)
}

fn mistake(found: &Mistake) -> Finding {
    let fix = format!("correct {} ({}); `millstream config check` tells when it is right", found.subject, found.source);
    Finding::fail(CHECK, found.to_string(), "every process refuses to start with it", fix)
}

fn lacking(found: &Mistake, process: Process) -> Finding {
    let fix = format!("set {} for the {process}, if it isn't set where that runs", found.subject);
    let what = format!("{found} [for {process}]");
    Finding::warn(CHECK, what, "with these settings that process refuses to start", fix)
}

fn warning(found: &Warning) -> Finding {
    let fix = format!("change {}, if that isn't meant", found.subject);
    Finding::warn(CHECK, format!("{}: {}", found.subject, found.what), "it works, and may surprise", fix)
}
