//! Answers of Redis, read where they lie. Source: `redis.io/docs`, RESP2.

use bytes::Bytes;
use fred::error::Error;

use super::RawEntry;
use super::plain::{broken, refusal};
use super::scan::LogEntry;
use crate::model::EntryId;

/// Longest line: the kind and the length of what follows, or an error in words.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Digits of the longest length.
const LENGTH_DIGITS_MAX: usize = 10;

/// What stands at the beginning of some bytes.
pub(super) enum Found<'a> {
    /// A whole entry.
    Entry(Shown<'a>),
    /// A part of one.
    Part,
}

/// An entry, and how many bytes it takes.
pub(super) struct Shown<'a> {
    pub(super) entry: LogEntry<'a>,
    pub(super) len: usize,
}

/// A stream in the answer to a read, and how many bytes it takes up to its first entry.
pub(super) struct Stream {
    pub(super) key: String,
    pub(super) entries: usize,
    pub(super) len: usize,
}

/// How many items follow the first line of an answer that is a list; nothing: it is nil.
pub(super) fn answer_len(line: &[u8]) -> Result<Option<u64>, Error> {
    match line.split_first() {
        Some((b'*', b"-1")) => Ok(None),
        Some((b'*', digits)) if digits.len() <= LENGTH_DIGITS_MAX => {
            number(digits).map(Some).ok_or_else(|| broken("a list was expected"))
        }
        Some((b'-', words)) => Err(refusal(words)),
        _ => Err(broken("a list was expected")),
    }
}

/// The line that the bytes begin with, and how many bytes it takes with its end; nothing: not all of it is here.
pub(super) fn line(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Error> {
    match bytes.iter().position(|byte| *byte == b'\r') {
        Some(end) if bytes.get(end + 1) == Some(&b'\n') => Ok(Some((&bytes[..end], end + 2))),
        Some(end) if end + 1 < bytes.len() => Err(broken("a line ends within")),
        None if bytes.len() > LINE_BYTES_MAX => Err(broken("a line doesn't end")),
        _ => Ok(None),
    }
}

/// The entry of a range that the bytes begin with.
pub(super) fn next_entry(bytes: &[u8]) -> Result<Found<'_>, Error> {
    let mut rest = Rest { bytes, at: 0 };
    Ok(match rest.entry()? {
        Some(entry) => Found::Entry(Shown { entry, len: rest.at }),
        None => Found::Part,
    })
}

/// The stream that the bytes begin with, up to its entries; nothing: not all of that is here.
pub(super) fn next_stream(bytes: &[u8]) -> Result<Option<Stream>, Error> {
    let mut rest = Rest { bytes, at: 0 };
    let Some(parts) = rest.length(b'*')? else { return Ok(None) };
    if parts != 2 {
        return Err(broken("a stream has a key and entries"));
    }
    let Some(key) = rest.string()? else { return Ok(None) };
    let key = String::from_utf8(key.to_vec()).map_err(|_| broken("a key is no text"))?;
    Ok(rest.length(b'*')?.map(|entries| Stream { key, entries, len: rest.at }))
}

/// Bytes that are whole entries, as entries; what they hold are slices of these bytes.
pub(super) fn entries(bytes: &Bytes) -> Result<Vec<RawEntry>, Error> {
    let mut rest = Rest { bytes, at: 0 };
    let mut entries = Vec::new();
    while rest.at < bytes.len() {
        entries.push(rest.raw_entry(bytes)?.ok_or_else(|| broken("an entry is not whole"))?);
    }
    Ok(entries)
}

/// The name of a field. The usual ones are not kept alive by what was read, and keep nothing alive.
fn field_name(all: &Bytes, name: &[u8]) -> Bytes {
    match name {
        b"r" => Bytes::from_static(b"r"),
        b"s" => Bytes::from_static(b"s"),
        b"k" => Bytes::from_static(b"k"),
        b"e" => Bytes::from_static(b"e"),
        _ => all.slice_ref(name),
    }
}

/// Bytes, and how far they are read.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    /// The id of an entry, and how many names and values follow.
    fn entry_head(&mut self) -> Result<Option<(EntryId, usize)>, Error> {
        let Some(parts) = self.length(b'*')? else { return Ok(None) };
        if parts != 2 {
            return Err(broken("an entry has an id and fields"));
        }
        let Some(id) = self.string()? else { return Ok(None) };
        let id = id_of(id).ok_or_else(|| broken("an entry has no id"))?;
        Ok(self.length(b'*')?.map(|values| (id, values)))
    }

    fn raw_entry(&mut self, all: &Bytes) -> Result<Option<RawEntry>, Error> {
        let Some((id, values)) = self.entry_head()? else { return Ok(None) };
        // A name and a value take eight bytes at least.
        let mut fields = Vec::with_capacity((values / 2).min(self.bytes.len() / 8));
        for _ in 0..values / 2 {
            let Some(name) = self.string()? else { return Ok(None) };
            let Some(value) = self.string()? else { return Ok(None) };
            fields.push((field_name(all, name), all.slice_ref(value)));
        }
        Ok(Some(RawEntry { id, fields }))
    }

    fn entry(&mut self) -> Result<Option<LogEntry<'a>>, Error> {
        let Some((id, values)) = self.entry_head()? else { return Ok(None) };
        let mut entry = LogEntry { id, ..LogEntry::default() };
        for _ in 0..values / 2 {
            let Some(name) = self.string()? else { return Ok(None) };
            let Some(value) = self.string()? else { return Ok(None) };
            entry.set(name, value);
        }
        Ok(Some(entry))
    }

    /// A string with its length before it.
    fn string(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let Some(len) = self.length(b'$')? else { return Ok(None) };
        let Some(end) = self.at.checked_add(len).filter(|end| end + 2 <= self.bytes.len()) else { return Ok(None) };
        let string = &self.bytes[self.at..end];
        if &self.bytes[end..end + 2] != b"\r\n" {
            return Err(broken("a string is longer than it says"));
        }
        self.at = end + 2;
        Ok(Some(string))
    }

    /// A length after the sign of its kind.
    fn length(&mut self, kind: u8) -> Result<Option<usize>, Error> {
        let Some((text, len)) = line(&self.bytes[self.at..])? else { return Ok(None) };
        let digits = text.strip_prefix(&[kind]).filter(|digits| digits.len() <= LENGTH_DIGITS_MAX);
        let length = digits.and_then(number).ok_or_else(|| broken("a length was expected"))?;
        self.at += len;
        usize::try_from(length).map(Some).map_err(|_| broken("a length was expected"))
    }
}

fn id_of(text: &[u8]) -> Option<EntryId> {
    let dash = text.iter().position(|byte| *byte == b'-')?;
    Some(EntryId::new(number(&text[..dash])?, number(&text[dash + 1..])?))
}

fn number(digits: &[u8]) -> Option<u64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let add = |number: u64, byte: &u8| number.checked_mul(10)?.checked_add(digit(*byte)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &[u8] =
        b"*2\r\n$3\r\n7-1\r\n*8\r\n$1\r\nr\r\n$1\r\na\r\n$1\r\ns\r\n$1\r\n4\r\n$1\r\nk\r\n$1\r\nm\r\n\
        $1\r\ne\r\n$5\r\n\r\nx\r\n\r\n";

    #[test]
    fn an_entry_is_found_once_it_is_whole() {
        for end in 0..ANSWER.len() {
            assert!(matches!(next_entry(&ANSWER[..end]), Ok(Found::Part)), "{end}");
        }
        let more = [ANSWER, b"*2\r\n"].concat();
        let Ok(Found::Entry(Shown { entry, len })) = next_entry(&more) else { panic!("not found") };
        assert_eq!((entry.id, len), (EntryId::new(7, 1), ANSWER.len()));
        assert_eq!((entry.room(), entry.envelope), (Some("a"), Some(&b"\r\nx\r\n"[..])));
    }

    #[test]
    fn what_is_no_entry_is_an_error() {
        for bytes in [
            &b"*3\r\n"[..],
            b"$1\r\n",
            b"*2\r\n$3\r\n7+1\r\n",
            b"*2\r\n$-1\r\n",
            b"*2\r\n$2\r\n7-1\r\n",
            b"*2\rx",
            b"*99999999999\r\n",
            &[b'1'; LINE_BYTES_MAX + 1],
        ] {
            assert!(next_entry(bytes).is_err(), "{}", String::from_utf8_lossy(bytes));
        }
    }

    proptest! {
        /// Whatever a broken connection says is survived.
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(prop_oneof![
            Just(b'*'), Just(b'$'), Just(b'\r'), Just(b'\n'), Just(b'2'), Just(b'-'), any::<u8>()
        ], 0..60)) {
            let _ = next_entry(&bytes);
            let _ = next_stream(&bytes);
            let _ = answer_len(&bytes);
            let _ = entries(&Bytes::from(bytes));
        }
    }
}
