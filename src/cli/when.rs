//! Times and places as people write them: one reader for all commands.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime};

use crate::error::{Error, Kind, Result};
use crate::model::EntryId;

/// From here on a bare number means milliseconds: as seconds it would lie tens of thousands of years ahead.
const MILLISECONDS_FROM: u64 = 1_000_000_000_000;

/// How `--from` and its like may be written, for `--help`.
pub(super) const FORMS: &str = "A time is written as now, start, -90s, -1h, -2d (that long ago), 2026-01-31, \
    2026-01-31T12:00:00Z, seconds or milliseconds since 1970, or the id of an entry (1700000000000-0).";

/// A point in time, or an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Milliseconds since the Unix epoch.
    At(u64),
    /// An entry.
    Entry(EntryId),
}

impl When {
    /// Reads `text`; `now_ms` is what relative times are relative to.
    pub(super) fn read(text: &str, now_ms: u64) -> Result<Self> {
        let text = text.trim();
        match text {
            "now" => return Ok(Self::At(now_ms)),
            "start" => return Ok(Self::Entry(EntryId::ZERO)),
            _ => (),
        }
        if let Some(ago) = text.strip_prefix('-') {
            let ago = humantime::parse_duration(ago).map_err(|e| unreadable(text).caused_by(e))?;
            let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
            return Ok(Self::At(now_ms.saturating_sub(ago)));
        }
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let number: u64 = text.parse().map_err(|_| unreadable(text))?;
            let ms = if number >= MILLISECONDS_FROM { Some(number) } else { number.checked_mul(1_000) };
            return ms.map(Self::At).ok_or_else(|| unreadable(text));
        }
        if let Ok(id) = text.parse() {
            return Ok(Self::Entry(id));
        }
        calendar(text).map(Self::At).ok_or_else(|| unreadable(text))
    }

    /// The first id that is not before it.
    pub(super) fn first(self) -> EntryId {
        match self {
            Self::At(ms) => EntryId::new(ms, 0),
            Self::Entry(id) => id,
        }
    }

    /// The last id that is not after it.
    pub(super) fn last(self) -> EntryId {
        match self {
            Self::At(ms) => EntryId::new(ms, u64::MAX),
            Self::Entry(id) => id,
        }
    }
}

impl FromStr for When {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::read(text, now_ms())
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(_) => f.write_str(&super::output::time_of(self.first())),
            Self::Entry(EntryId::ZERO) => f.write_str("the start"),
            Self::Entry(id) => id.fmt(f),
        }
    }
}

/// Milliseconds since the Unix epoch, now.
pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// RFC 3339, or a date alone: its midnight in UTC.
fn calendar(text: &str) -> Option<u64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok().or_else(|| {
        let date = Date::parse(text, format_description!("[year]-[month]-[day]")).ok()?;
        Some(date.midnight().assume_utc())
    })?;
    u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn unreadable(text: &str) -> Error {
    Error::new(Kind::Invalid, format!("read {text:?} as a time or the id of an entry"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn read(text: &str) -> When {
        When::read(text, NOW).unwrap()
    }

    #[test]
    fn every_form_of_a_time_is_understood() {
        assert_eq!(read("now"), When::At(NOW));
        assert_eq!(read("-1h"), When::At(NOW - 3_600_000));
        assert_eq!(read("-1h 30m"), When::At(NOW - 5_400_000));
        assert_eq!(read("-200ms"), When::At(NOW - 200));
        assert_eq!(read("1700000000"), When::At(NOW));
        assert_eq!(read("1700000000000"), When::At(NOW));
        assert_eq!(read("2023-11-14T22:13:20Z"), When::At(NOW));
        assert_eq!(read("2023-11-14T23:13:20.005+01:00"), When::At(NOW + 5));
        assert_eq!(read("2023-11-14"), When::At(1_699_920_000_000));
        assert_eq!(read("1700000000000-7"), When::Entry(EntryId::new(NOW, 7)));
        assert_eq!(read("start"), When::Entry(EntryId::ZERO));
        assert_eq!(read(" now "), When::At(NOW));
    }

    #[test]
    fn a_time_longer_ago_than_1970_is_the_beginning() {
        assert_eq!(read("-100years"), When::At(0));
    }

    #[test]
    fn nonsense_is_refused_and_named() {
        for text in ["", "-", "-1", "yesterday", "1-", "-1-2", "1.5", "1969-12-31T00:00:00Z", "2023-13-01", "1h", "+5"]
        {
            let error = When::read(text, NOW).unwrap_err();
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        assert!(When::read("99999999999999999999", NOW).is_err());
    }

    #[test]
    fn a_time_covers_its_whole_millisecond() {
        assert_eq!(read("now").first(), EntryId::new(NOW, 0));
        assert_eq!(read("now").last(), EntryId::new(NOW, u64::MAX));
        assert_eq!((read("5-3").first(), read("5-3").last()), (EntryId::new(5, 3), EntryId::new(5, 3)));
    }

    #[test]
    fn it_is_shown_as_it_is_meant() {
        assert_eq!(read("now").to_string(), "2023-11-14T22:13:20Z");
        assert_eq!(read("start").to_string(), "the start");
        assert_eq!(read("5-3").to_string(), "5-3");
    }
}
