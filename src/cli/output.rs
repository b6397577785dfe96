//! What commands write: tables for people, JSON for scripts, progress for who watches.
//!
//! Results go to standard output and nothing else does; notes and progress go to standard error.
//!
//! **Invariant:** what users wrote can't forge lines or colours on a terminal: [`printable`].

use std::io::{self, ErrorKind, Write};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::ending::{Ending, Outcome};
use crate::error::Error;
use crate::model::EntryId;

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<[u8]>) -> Outcome {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_ref()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(closed)
}

/// Many lines for standard output: written when enough of them are there, and at the end.
pub(super) struct Lines(io::BufWriter<io::Stdout>);

impl Lines {
    pub(super) fn new() -> Self {
        Self(io::BufWriter::with_capacity(64 << 10, io::stdout()))
    }

    pub(super) fn add(&mut self, text: &[u8]) -> Outcome {
        self.0.write_all(text).and_then(|()| self.0.write_all(b"\n")).map_err(closed)
    }

    pub(super) fn finish(mut self) -> Outcome {
        self.0.flush().map_err(closed)
    }
}

/// Writes a value as one line of JSON.
pub(super) fn json(value: &impl Serialize) -> Outcome {
    line(serde_json::to_vec(value).map_err(|e| Error::internal("write JSON").caused_by(e))?)
}

/// A note for people, on standard error.
pub(super) fn note(text: impl AsRef<str>) {
    // Nobody there to read it is no reason to stop.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// A table with these columns: no frame and no colours, so that it can be read, cut and pasted.
pub(super) fn table(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|name| name.to_uppercase()));
    table
}

/// Writes a table.
pub(super) fn show(table: &Table) -> Outcome {
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    line(lines.join("\n"))
}

/// A bar over `total` steps; shows itself on a terminal only.
pub(super) fn progress(total: u64, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(total).with_message(what);
    let style = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len}, {per_sec}, {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// `text` with everything escaped that could end a line, move the cursor or turn the direction.
pub(super) fn printable(text: &str) -> String {
    let is_plain = |char: &char| !char.is_control() && !is_layout(*char);
    if text.chars().all(|char| is_plain(&char)) {
        return text.to_owned();
    }
    text.chars()
        .map(|char| if is_plain(&char) { char.to_string() } else { char.escape_default().to_string() })
        .collect()
}

/// Line and paragraph separators, direction marks, embeddings, overrides and isolates.
/// Source: Unicode Standard Annex 9, section 2.
fn is_layout(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

/// Or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// A number with its noun: `1 entry`, `2 entries`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// The time of an id as RFC 3339, or the milliseconds if no calendar has it.
pub(super) fn time_of(id: EntryId) -> String {
    use time::OffsetDateTime;
    use time::format_description::well_known::Rfc3339;
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(id.ms) * 1_000_000).ok();
    at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| id.ms.to_string())
}

fn closed(error: io::Error) -> Ending {
    match error.kind() {
        ErrorKind::BrokenPipe => Ending::Closed,
        _ => Ending::Failed(Error::internal("write to standard output").caused_by(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_wrote_forges_nothing() {
        assert_eq!(printable("héllo \u{1b}[31mred\nline\u{202e}"), "héllo \\u{1b}[31mred\\nline\\u{202e}");
        assert_eq!(printable("plain ü"), "plain ü");
    }

    #[test]
    fn a_table_has_a_row_per_line_and_no_colours() {
        let mut table = table(&["group", "lag"]);
        table.add_row(["archive", "0"]).add_row(["callback:orders", "12"]);
        let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        assert_eq!(lines, [" GROUP            LAG", " archive          0", " callback:orders  12"]);
    }

    #[test]
    fn the_time_of_an_id_is_readable() {
        assert_eq!(time_of(EntryId::new(1_700_000_000_005, 1)), "2023-11-14T22:13:20.005Z");
        assert_eq!(time_of(EntryId::MAX), u64::MAX.to_string());
    }
}
