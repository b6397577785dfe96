//! What a check found, and how it is told.

use serde::Serialize;

use crate::cli::ending::{Ending, Outcome};
use crate::cli::output::{self, printable};

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    /// As it should be.
    Ok,
    /// It works, and may not for long, or not as somebody expects.
    Warn,
    /// Something doesn't work, or a promise isn't kept.
    Fail,
    /// It could not be looked at.
    Skipped,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The check: `redis.durability`.
    pub(super) check: String,
    pub(super) status: Status,
    /// What was found.
    pub(super) what: String,
    /// What follows from it; empty if nothing does.
    pub(super) why: String,
    /// What to do; empty if there is nothing to do.
    pub(super) fix: String,
}

impl Finding {
    fn new(check: &str, status: Status, what: impl Into<String>, why: &str, fix: impl Into<String>) -> Self {
        Self { check: check.to_owned(), status, what: what.into(), why: why.to_owned(), fix: fix.into() }
    }

    pub(super) fn ok(check: &str, what: impl Into<String>) -> Self {
        Self::new(check, Status::Ok, what, "", "")
    }

    pub(super) fn warn(check: &str, what: impl Into<String>, why: &str, fix: impl Into<String>) -> Self {
        Self::new(check, Status::Warn, what, why, fix)
    }

    pub(super) fn fail(check: &str, what: impl Into<String>, why: &str, fix: impl Into<String>) -> Self {
        Self::new(check, Status::Fail, what, why, fix)
    }

    pub(super) fn skipped(check: &str, what: impl Into<String>) -> Self {
        Self::new(check, Status::Skipped, what, "", "")
    }
}

/// Tells everything, and whether it is good enough.
pub(super) fn tell(findings: &[Finding], json: bool, strict: bool) -> Outcome {
    if json {
        output::json(&findings)?;
    } else {
        table(findings)?;
        details(findings)?;
        output::line(summary(findings))?;
    }
    if is_bad(findings, strict) { Err(Ending::FindingsTold) } else { Ok(()) }
}

/// Whether the exit code is 1.
fn is_bad(findings: &[Finding], strict: bool) -> bool {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count();
    count(Status::Fail) > 0 || (strict && count(Status::Warn) > 0)
}

fn table(findings: &[Finding]) -> Outcome {
    let mut table = output::table(&["status", "check", "what"]);
    for finding in findings {
        let status = match finding.status {
            Status::Ok => "ok",
            Status::Warn => "WARN",
            Status::Fail => "FAIL",
            Status::Skipped => "skipped",
        };
        table.add_row([status.to_owned(), printable(&finding.check), printable(&finding.what)]);
    }
    output::show(&table)
}

fn details(findings: &[Finding]) -> Outcome {
    for finding in findings.iter().filter(|finding| matches!(finding.status, Status::Warn | Status::Fail)) {
        output::line(format!("\n{}: {}", printable(&finding.check), printable(&finding.what)))?;
        output::line(format!("  why  {}", printable(&finding.why)))?;
        for (nth, line) in finding.fix.lines().enumerate() {
            output::line(format!("  {}  {}", if nth == 0 { "fix" } else { "   " }, printable(line)))?;
        }
    }
    Ok(())
}

fn summary(findings: &[Finding]) -> String {
    let count = |status| findings.iter().filter(|finding| finding.status == status).count() as u64;
    let (failed, warned, skipped) = (count(Status::Fail), count(Status::Warn), count(Status::Skipped));
    let mut parts = vec![output::count(findings.len() as u64, "check", "checks")];
    parts.extend((failed > 0).then(|| format!("{failed} failed")));
    parts.extend((warned > 0).then(|| output::count(warned, "warning", "warnings")));
    parts.extend((skipped > 0).then(|| format!("{skipped} skipped")));
    if failed + warned == 0 {
        parts.push("nothing is wrong".to_owned());
    }
    format!("\n{}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_are_bad_unless_it_is_strict() {
        let warned = [Finding::ok("a", ""), Finding::warn("b", "", "", ""), Finding::skipped("c", "")];
        assert!(!is_bad(&warned, false) && is_bad(&warned, true));
        assert!(is_bad(&[Finding::fail("a", "", "", "")], false));
        assert!(!is_bad(&[Finding::skipped("a", "")], true));
    }

    #[test]
    fn scripts_find_the_promised_fields() {
        let json = serde_json::to_value(Finding::warn("redis.memory", "full", "soon", "more")).unwrap();
        assert_eq!(json["status"], "warn");
        assert_eq!((&json["check"], &json["what"]), (&"redis.memory".into(), &"full".into()));
        assert_eq!((&json["why"], &json["fix"]), (&"soon".into(), &"more".into()));
    }
}
