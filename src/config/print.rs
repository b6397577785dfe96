//! Settings as they may be shown.

use toml::Value;

use super::Line;
use super::key::{Key, Shape};
use super::tree::Tree;

/// Every key with its value, in the order of their declaration.
pub(super) fn lines(tree: &Tree) -> Vec<Line> {
    let line = |(key, path): (&'static Key, String)| {
        let value = match tree.get(&path) {
            Some((value, _)) => Some(value.clone()),
            None => key.default.clone(),
        };
        Line { value: value.map(|value| shown(key, &path, value)), source: tree.source(&path), key: path }
    };
    tree.in_order().into_iter().map(line).collect()
}

fn shown(key: &Key, path: &str, value: Value) -> String {
    match (key.shape, value) {
        (Shape::Secret, Value::String(text)) if path.ends_with(".url") => Value::String(mask_url(&text)).to_string(),
        (Shape::Secret, Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
        (Shape::Secret, _) => "\"***\"".to_owned(),
        (Shape::SecretList, Value::Array(items)) => format!("[{}]", vec!["\"***\""; items.len()].join(", ")),
        (Shape::SecretList, _) => "\"***\"".to_owned(),
        (_, Value::String(text)) if text.contains("://") => Value::String(mask_url(&text)).to_string(),
        (_, other) => other.to_string(),
    }
}

/// The URL with its passwords masked: the one before the host, and those in its query.
pub fn mask_url(url: &str) -> String {
    let url = mask_authority(url);
    match url.split_once('?') {
        Some((rest, query)) => {
            let query: Vec<_> = query.split('&').map(mask_parameter).collect();
            format!("{rest}?{}", query.join("&"))
        }
        None => url,
    }
}

fn mask_authority(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // The last `@`: a password that was not escaped may hold others, and must not show.
    let Some((user, host)) = rest.rsplit_once('@') else { return url.to_owned() };
    match user.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => url.to_owned(),
    }
}

fn mask_parameter(parameter: &str) -> String {
    let telling = ["password", "secret", "token", "key", "sig", "auth"];
    match parameter.split_once('=') {
        Some((name, _)) if telling.iter().any(|word| name.to_lowercase().contains(word)) => format!("{name}=***"),
        _ => parameter.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_of_urls_are_masked_wherever_they_are() {
        assert_eq!(mask_url("redis://:pa/s@s@host:6379/1"), "redis://:***@host:6379/1");
        assert_eq!(
            mask_url("postgres://me:x@host/db?sslpassword=y&a=b"),
            "postgres://me:***@host/db?sslpassword=***&a=b"
        );
        assert_eq!(mask_url("postgres://me@host/db"), "postgres://me@host/db");
        assert_eq!(mask_url("redis://host"), "redis://host");
        assert_eq!(mask_url("redis://:pa?ss@host"), "redis://:***@host");
    }
}
