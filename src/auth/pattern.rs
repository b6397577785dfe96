//! Patterns of names: `*` stands for any run of characters.

/// Whether `pattern` matches all of `text`; `*` matches any run of characters, the empty one too.
///
/// Takes at most `pattern × text` steps, whatever was written: there is no nesting.
///
/// ```
/// use millstream::auth::matches;
/// assert!(matches("team:*", "team:42/general"));
/// assert!(matches("*/general", "team:42/general"));
/// assert!(!matches("team", "team:42"));
/// ```
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    // Where to go on when the last star has to take one more byte.
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p + 1, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, t) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_run_and_nothing_else_does() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
            ("a**c", "ac", true),
            ("", "", true),
            ("", "a", false),
            ("a.c", "abc", false),
            ("*a", "aaaaab", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} and {text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_made_from_a_text_by_putting_stars_matches_it(text in "[a-c]{0,12}", from in 0usize..13, to in 0usize..13) {
            let (from, to) = (from.min(text.len()), to.min(text.len()));
            let (from, to) = (from.min(to), from.max(to));
            let pattern = format!("{}*{}", &text[..from], &text[to..]);
            proptest::prop_assert!(matches(&pattern, &text));
        }
    }
}
