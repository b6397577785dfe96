//! Bodies that say who sent them, as which, and when they were to be sent.
//!
//! A stamp has a fixed width, so that a receiver finds it without reading the frame as JSON.

/// What stands before a stamp; no other field of a frame of ours contains it.
const MARK: &str = "\"mb:";
/// `pppppppp:nnnnnnnnnnnn:tttttttttttttttt`, the digits of a stamp and what parts them.
const DIGITS: usize = 8 + 1 + 12 + 1 + 16;
/// Shortest body: quotes, mark, digits.
pub(super) const BYTES_MIN: usize = MARK.len() + DIGITS + 1;

/// What a body says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Who sent it.
    pub(super) publisher: u32,
    /// Counts the publisher's messages, from 0.
    pub(super) n: u64,
    /// When it was to be sent, in microseconds of the load's clock.
    pub(super) at: u64,
}

impl Stamp {
    /// The body, a JSON string of `bytes` bytes, or of the fewest that hold the stamp.
    pub(super) fn body(self, bytes: usize) -> String {
        let Self { publisher, n, at } = self;
        let mut body = format!("{MARK}{publisher:08}:{n:012}:{at:016}");
        body.extend(std::iter::repeat_n('x', bytes.saturating_sub(BYTES_MIN)));
        body.push('"');
        body
    }

    /// The first stamp in a frame.
    pub(super) fn find(frame: &str) -> Option<Self> {
        Self::find_all(frame).next()
    }

    /// The stamps in a frame of several messages, in their order.
    pub(super) fn find_all(frame: &str) -> impl Iterator<Item = Self> {
        frame.match_indices(MARK).filter_map(|(at, _)| Self::read(frame.as_bytes().get(at + MARK.len()..)?))
    }

    fn read(body: &[u8]) -> Option<Self> {
        let digits = body.get(..DIGITS)?;
        let publisher = u32::try_from(number(&digits[..8])?).ok()?;
        Some(Self { publisher, n: number(&digits[9..21])?, at: number(&digits[22..])? })
    }
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_in_a_frame() {
        let stamp = Stamp { publisher: 7, n: 123_456, at: 9_999_999_999_999_999 };
        for bytes in [0, BYTES_MIN, 200] {
            let body = stamp.body(bytes);
            assert_eq!(body.len(), bytes.max(BYTES_MIN));
            assert!(serde_json::from_str::<String>(&body).is_ok());
            assert_eq!(Stamp::find(&format!(r#"{{"type":"message","cid":"c","body":{body}}}"#)), Some(stamp));
        }
        assert_eq!(Stamp::find(r#"{"body":"mb:0000"}"#), None);
        let other = Stamp { n: 8, ..stamp };
        let page =
            format!(r#"{{"type":"replay","entries":[{{"body":{}}},{{"body":{}}}]}}"#, stamp.body(200), other.body(0));
        assert_eq!(Stamp::find_all(&page).collect::<Vec<_>>(), [stamp, other]);
        assert_eq!(Stamp::find(r#"{"type":"live","room":"r","seq":0}"#), None);
    }
}
