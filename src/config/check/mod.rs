//! What values may be, alone and together.

mod endpoints;
mod limits;
mod places;

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::mistake::Findings;
use super::tree::Tree;
use super::{Process, Settings};

/// Checks everything; what is wrong and what may surprise goes to `findings`.
pub(super) fn check(settings: &Settings, process: Process, tree: &Tree, findings: &mut Findings) {
    let mut checker = Checker { tree, findings, process };
    places::check(settings, &mut checker);
    limits::check(settings, &mut checker);
    endpoints::check(&settings.callback, &mut checker);
}

/// Where findings go, each with the source of the value.
struct Checker<'a> {
    tree: &'a Tree,
    findings: &'a mut Findings,
    process: Process,
}

impl Checker<'_> {
    fn mistake(&mut self, key: &str, what: impl Into<String>) {
        let source = self.tree.source(key);
        self.findings.mistake(key, source, what);
    }

    fn warn(&mut self, key: &str, what: impl Into<String>) {
        self.findings.warn(key, what);
    }

    fn range<T: PartialOrd + Display>(&mut self, key: &str, value: T, range: RangeInclusive<T>) {
        if !range.contains(&value) {
            self.mistake(key, format!("{value} given, {} to {} is possible", range.start(), range.end()));
        }
    }

    fn span(&mut self, key: &str, value: Duration, range: RangeInclusive<Duration>) {
        if !range.contains(&value) {
            let text = humantime::format_duration;
            let (min, max) = (text(*range.start()), text(*range.end()));
            self.mistake(key, format!("{} given, {min} to {max} is possible", text(value)));
        }
    }
}
