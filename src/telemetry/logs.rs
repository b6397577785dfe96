//! Log lines to standard error, as text or JSON.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::{LogFormat, LogSettings};
use crate::error::{Error, Kind, Result};

/// Sends what `tracing` records to standard error. Once per process: a second call changes nothing.
///
/// # Errors
/// [`Kind::Config`] if `log.level` can't be read.
pub fn init(settings: &LogSettings) -> Result<()> {
    let filter = filter(&settings.level)?;
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_ansi(false);
    // A second call (all services in one process, tests) finds the first one's subscriber.
    let _ = match settings.format {
        LogFormat::Text => registry.with(layer.with_writer(OneLine(io::stderr))).try_init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true).with_writer(io::stderr)).try_init(),
    };
    Ok(())
}

/// Reads `log.level`: a level, or a filter such as `info,millstream::edge=debug`.
///
/// # Errors
/// [`Kind::Config`] if it is neither.
pub fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::builder()
        .parse(level)
        .map_err(|e| Error::new(Kind::Config, format!("read log.level {level:?}")).caused_by(e))
}

/// Keeps each record on one line: what users wrote may hold line breaks and control sequences,
/// which would forge lines and colours. (JSON escapes them by itself.)
#[derive(Clone)]
struct OneLine<M>(M);

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for OneLine<M> {
    type Writer = OneLine<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    // The formatter hands over a whole record in one call.
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        match text.strip_suffix('\n') {
            Some(line) => self.0.write_all(format!("{}\n", escape(line)).as_bytes())?,
            None => self.0.write_all(escape(&text).as_bytes())?,
        }
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `text` with everything escaped that could end a line, move the cursor or turn the direction.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() || is_layout(char) {
            escaped.extend(char.escape_default());
        } else {
            escaped.push(char);
        }
    }
    escaped
}

/// Line and paragraph separators, direction marks, embeddings, overrides and isolates.
/// Source: Unicode Standard Annex 9, section 2.
fn is_layout(char: char) -> bool {
    matches!(char, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{061c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_users_wrote_stays_on_its_line() {
        let mut written = Vec::new();
        let record = "INFO joined room=a\nINFO forged \u{1b}[31m\u{202e}end ü\n";
        assert_eq!(OneLine(&mut written).write(record.as_bytes()).unwrap(), record.len());
        let written = String::from_utf8(written).unwrap();
        assert_eq!(written, "INFO joined room=a\\nINFO forged \\u{1b}[31m\\u{202e}end ü\n");
    }

    #[test]
    fn a_level_or_a_filter_is_understood_and_nonsense_is_refused() {
        assert!(filter("info").is_ok());
        assert!(filter("info,millstream::edge=debug").is_ok());
        assert_eq!(filter("millstream=loud").unwrap_err().kind(), Kind::Config);
    }
}
