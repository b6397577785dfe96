//! Bodies: checked once, kept as compact JSON text.
//!
//! A body goes from a client's frame into an envelope, a `jsonb` column and other clients' frames.
//! What one of them can't take is refused here, at the only way in: U+0000 and half surrogate pairs
//! (Postgres has neither), numbers that overflow, nesting without end.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::ErrorCode;

/// How deep a value of a frame may be nested: `[]` is 1, `[[]]` is 2.
pub const DEPTH_MAX: usize = 32;

/// Longest number without an exponent that needs no closer look: below 10³⁰⁰, and with fewer
/// digits after the point than `jsonb` takes.
const PLAIN_NUMBER_BYTES_MAX: usize = 300;
/// Digits after the point that a `jsonb` number holds (Postgres docs, "Numeric Types").
const SCALE_MAX: i64 = 16_383;

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyFault {
    /// [`ErrorCode::BadFrame`], [`ErrorCode::BadBody`] or [`ErrorCode::TooLarge`].
    pub code: ErrorCode,
    /// For a person.
    pub message: &'static str,
}

impl BodyFault {
    pub(super) const NUL: Self = Self::bad("the body holds U+0000, which can't be stored");
    pub(super) const SURROGATE: Self = Self::bad("the body holds half a surrogate pair");
    pub(super) const NUMBER: Self = Self::bad("the body holds a number out of range");
    pub(super) const TOO_DEEP: Self = Self::frame("the body is nested deeper than 32");
    pub(super) const NOT_JSON: Self = Self::frame("the body is not JSON");

    pub(super) const fn bad(message: &'static str) -> Self {
        Self { code: ErrorCode::BadBody, message }
    }

    pub(super) const fn frame(message: &'static str) -> Self {
        Self { code: ErrorCode::BadFrame, message }
    }

    pub(super) const fn too_large() -> Self {
        Self { code: ErrorCode::TooLarge, message: "the body is over its limit" }
    }
}

/// Checks any JSON text and makes it compact; borrows if it is already. For bodies that don't come
/// in a frame: those of the API and the command line.
///
/// ```
/// use millstream::protocol::{ErrorCode, check_body};
/// assert_eq!(check_body(r#"{ "text": "a b" }"#, 100).unwrap(), r#"{"text":"a b"}"#);
/// assert_eq!(check_body(r#""\u0000""#, 100).unwrap_err().code, ErrorCode::BadBody);
/// assert_eq!(check_body("[1,2", 100).unwrap_err().code, ErrorCode::BadFrame);
/// ```
///
/// # Errors
/// If it is not JSON, not storable, nested deeper than [`DEPTH_MAX`] or longer than `bytes_max`.
pub fn check_body(text: &str, bytes_max: usize) -> Result<Cow<'_, str>, BodyFault> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|_| BodyFault::NOT_JSON)?;
    bounded(compact(raw.get())?, bytes_max)
}

/// Refuses a compact body over `bytes_max`.
pub(super) fn bounded(body: Cow<'_, str>, bytes_max: usize) -> Result<Cow<'_, str>, BodyFault> {
    if body.len() > bytes_max { Err(BodyFault::too_large()) } else { Ok(body) }
}

/// One scan over a value whose syntax serde_json has checked: depth, strings, numbers, and no
/// white space outside strings.
pub(super) fn compact(json: &str) -> Result<Cow<'_, str>, BodyFault> {
    let bytes = json.as_bytes();
    let mut compacted = String::new();
    // Everything before this is in `compacted`, or will be skipped.
    let mut copied = 0;
    let (mut at, mut depth) = (0, 0);
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => at = check_string(bytes, at + 1)?,
            b'-' | b'0'..=b'9' => {
                let end = at + number_len(&bytes[at..]);
                check_number(&json[at..end])?;
                at = end;
            }
            b'{' | b'[' => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(BodyFault::TOO_DEEP);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
            }
            b' ' | b'\t' | b'\n' | b'\r' => {
                compacted.push_str(&json[copied..at]);
                at += 1;
                copied = at;
            }
            _ => at += 1,
        }
    }
    if copied == 0 {
        return Ok(Cow::Borrowed(json));
    }
    compacted.push_str(&json[copied..]);
    Ok(Cow::Owned(compacted))
}

/// Checks the escapes of the string whose content begins at `at`; returns where it has ended.
fn check_string(bytes: &[u8], mut at: usize) -> Result<usize, BodyFault> {
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok(at + 1),
            Some(b'\\') if bytes.get(at + 1) == Some(&b'u') => {
                at = match code_unit(bytes, at)? {
                    0 => return Err(BodyFault::NUL),
                    0xD800..=0xDBFF => low_half(bytes, at + 6)?,
                    0xDC00..=0xDFFF => return Err(BodyFault::SURROGATE),
                    _ => at + 6,
                };
            }
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            None => return Err(BodyFault::NOT_JSON),
        }
    }
}

/// The second half of a surrogate pair has to stand at `at`; returns where it has ended.
fn low_half(bytes: &[u8], at: usize) -> Result<usize, BodyFault> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\\'), Some(b'u')) if (0xDC00..=0xDFFF).contains(&code_unit(bytes, at)?) => Ok(at + 6),
        _ => Err(BodyFault::SURROGATE),
    }
}

/// The number of the `\u` escape that begins at `at`.
fn code_unit(bytes: &[u8], at: usize) -> Result<u32, BodyFault> {
    let digits = bytes.get(at + 2..at + 6).ok_or(BodyFault::NOT_JSON)?;
    digits.iter().try_fold(0, |unit, &digit| {
        let digit = char::from(digit).to_digit(16).ok_or(BodyFault::NOT_JSON)?;
        Ok(unit << 4 | digit)
    })
}

/// How many bytes at the beginning belong to one number.
pub(super) fn number_len(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')).count()
}

/// A number must be finite as a 64-bit float (what most readers make of it), and must not have more
/// digits than `jsonb` takes.
fn check_number(number: &str) -> Result<(), BodyFault> {
    let exponent = number.find(['e', 'E']);
    if exponent.is_none() && number.len() <= PLAIN_NUMBER_BYTES_MAX {
        return Ok(());
    }
    let (digits, exponent) = match exponent {
        Some(at) => (&number[..at], number[at + 1..].parse::<i64>().map_err(|_| BodyFault::NUMBER)?),
        None => (number, 0),
    };
    let decimals = digits.find('.').map_or(0, |point| digits.len() - point - 1);
    let scale = i64::try_from(decimals).unwrap_or(i64::MAX).saturating_sub(exponent);
    let finite = number.parse::<f64>().is_ok_and(f64::is_finite);
    if finite && scale <= SCALE_MAX && exponent <= SCALE_MAX { Ok(()) } else { Err(BodyFault::NUMBER) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(json: &str) -> ErrorCode {
        check_body(json, 1 << 20).unwrap_err().code
    }

    #[test]
    fn a_compact_body_is_borrowed() {
        for body in ["null", "1.50", "\"a b\\n\\ud83d\\ude00\"", r#"{"a":[1,{"b":"c d"}],"e":-0.0e-7}"#, "[]"] {
            assert!(matches!(check_body(body, 1000), Ok(Cow::Borrowed(same)) if same == body), "{body}");
        }
    }

    #[test]
    fn white_space_goes_only_outside_strings() {
        let body = " {\n\t\"a b\" : [ 1 , \" \\\" \" ] ,\r\"c\":{ } } ";
        assert_eq!(check_body(body, 1000).unwrap(), r#"{"a b":[1," \" "],"c":{}}"#);
    }

    #[test]
    fn what_postgres_cannot_store_is_refused() {
        for body in [r#""\u0000""#, r#"{"\u0000":1}"#, r#"["a\\\u0000"]"#] {
            assert_eq!(code(body), ErrorCode::BadBody, "{body}");
        }
        for body in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\ud83dx\ude00""#, r#"{"\uDFFF":1}"#] {
            assert_eq!(code(body), ErrorCode::BadBody, "{body}");
        }
        assert!(check_body(r#""\\u0000 \\ud800""#, 100).is_ok(), "an escaped backslash begins no escape");
    }

    #[test]
    fn numbers_stay_in_range() {
        let digits = "9".repeat(400);
        let decimals = format!("0.{}", "0".repeat(20_000));
        for body in ["1e999", "[-1E400]", "1e-20000", "0e99999999999999999999", "0e20000", &digits, &decimals] {
            assert_eq!(code(body), ErrorCode::BadBody, "{body}");
        }
        let digits = "9".repeat(308);
        for body in ["1e308", "-1.5E+10", "1e-400", "0e1", "18446744073709551616", &digits] {
            assert!(check_body(body, 1000).is_ok(), "{body}");
        }
    }

    #[test]
    fn depth_and_length_have_limits() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(check_body(&nested(DEPTH_MAX), 1000).is_ok());
        assert_eq!(code(&nested(DEPTH_MAX + 1)), ErrorCode::BadFrame);
        assert_eq!(code(&nested(100_000)), ErrorCode::BadFrame);
        assert!(check_body("[ 1 ]", 3).is_ok(), "white space doesn't count");
        assert_eq!(check_body("[1,2]", 4).unwrap_err().code, ErrorCode::TooLarge);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in ["", "nul", "01", "\"\u{0}\"", "\"\\x\"", "[1,]", "{\"a\"}", "1 2", "\"\\u00g0\"", "NaN"] {
            assert_eq!(code(text), ErrorCode::BadFrame, "{text:?}");
        }
    }

    proptest! {
        /// No text makes the scan panic, whatever serde_json would have said of it.
        #[test]
        fn any_text_is_survived(text in r#"[\[\]{}":,\\u0-9a-fDE.+\- \n\x00-\x7fé]{0,40}"#) {
            let _ = compact(&text);
            if let Ok(body) = check_body(&text, 1000) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
            }
        }
    }
}
