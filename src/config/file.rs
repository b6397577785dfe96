//! Settings in a file.

use std::path::Path;

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::Source;
use super::mistake::Findings;
use super::tree::Given;

/// Reads the file; what can't be read is a mistake.
pub(super) fn read(path: &Path, findings: &mut Findings) -> Vec<Given> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, findings),
        Err(error) => {
            findings.mistake(path.display().to_string(), Source::line(path, 0), format!("can't be read: {error}"));
            Vec::new()
        }
    }
}

pub(super) fn parse(path: &Path, text: &str, findings: &mut Findings) -> Vec<Given> {
    let table = match text.parse::<Table>() {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(0, |span| line_of(text, span.start));
            findings.mistake(path.display().to_string(), Source::line(path, line), error.message());
            return Vec::new();
        }
    };
    // Only the borrowed form of the same document knows where each value stands.
    let lines = DeTable::parse(text).map(|spans| lines(text, spans.get_ref())).unwrap_or_default();
    let mut given = Vec::new();
    flatten("", Value::Table(table), &mut |at, value| {
        let line = lines.iter().find_map(|(path, line)| (*path == at).then_some(*line)).unwrap_or(0);
        given.push(Given { written: at.clone(), path: at, value, source: Source::line(path, line) });
    });
    given
}

/// Calls `leaf` with each value that is no table, and with empty tables, which hold no value to be found.
fn flatten(path: &str, value: Value, leaf: &mut impl FnMut(String, Value)) {
    match value {
        Value::Table(table) if path.is_empty() || !table.is_empty() => {
            for (name, value) in table {
                flatten(&super::key::join(path, &name), value, leaf);
            }
        }
        Value::Table(_) if is_section(path) => {}
        Value::Array(items) if path == "callback.endpoints" => {
            for (number, item) in items.into_iter().enumerate() {
                flatten(&format!("{path}.{number}"), item, leaf);
            }
        }
        other => leaf(path.to_owned(), other),
    }
}

fn is_section(path: &str) -> bool {
    let section = format!("{}.", super::key::general(path));
    super::key::all().iter().any(|key| key.path.starts_with(&section))
}

fn lines(text: &str, table: &DeTable<'_>) -> Vec<(String, usize)> {
    let mut lines = Vec::new();
    walk("", text, table, &mut lines);
    lines
}

fn walk(path: &str, text: &str, table: &DeTable<'_>, lines: &mut Vec<(String, usize)>) {
    for (name, value) in table {
        let path = super::key::join(path, name.get_ref());
        lines.push((path.clone(), line_of(text, name.span().start)));
        match value.get_ref() {
            DeValue::Table(below) => walk(&path, text, below, lines),
            DeValue::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    if let DeValue::Table(below) = item.get_ref() {
                        walk(&format!("{path}.{number}"), text, below, lines);
                    }
                }
            }
            _ => {}
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}
