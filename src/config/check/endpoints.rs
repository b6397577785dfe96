//! The endpoints of callbacks.

use std::collections::HashSet;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Checker;
use crate::config::{CallbackSettings, EndpointSettings, Secret};

/// Standard Webhooks, "Signature scheme": secrets have 24 to 64 bytes.
const SECRET_BYTES_MIN: usize = 24;
const NAME_BYTES_MAX: usize = 64;

/// As lenient as the signer: secrets are pasted by people, with or without their padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn check(callback: &CallbackSettings, checker: &mut Checker<'_>) {
    if !callback.secret.is_empty() {
        secret("callback.secret", &callback.secret, checker);
    }
    let numbers: Vec<usize> = checker.tree.endpoints().into_iter().collect();
    let mut names = HashSet::new();
    for (endpoint, number) in callback.endpoints.iter().zip(numbers) {
        let path = format!("callback.endpoints.{number}");
        check_endpoint(endpoint, &path, checker);
        if !endpoint.name.is_empty() && !names.insert(endpoint.name.as_str()) {
            checker.mistake(&format!("{path}.name"), format!("{:?} is the name of another endpoint", endpoint.name));
        }
    }
}

fn check_endpoint(endpoint: &EndpointSettings, path: &str, checker: &mut Checker<'_>) {
    let key = |name: &str| format!("{path}.{name}");
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
    if endpoint.name.is_empty() || endpoint.name.len() > NAME_BYTES_MAX || !endpoint.name.bytes().all(fits) {
        let what = format!("{:?} given, 1 to {NAME_BYTES_MAX} of a-z 0-9 - _ expected", endpoint.name);
        checker.mistake(&key("name"), what);
    }
    let host = ["http://", "https://"].iter().find_map(|scheme| endpoint.url.strip_prefix(scheme));
    if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(char::is_whitespace)) {
        let given = crate::config::mask_url(&endpoint.url);
        checker.mistake(&key("url"), format!("{given:?} given, http://host/… or https://host/… expected"));
    }
    if endpoint.kinds.is_empty() {
        checker.mistake(&key("kinds"), "is empty: at least one of message, room_events, data expected");
    }
    if endpoint.rooms.is_empty() {
        checker.mistake(&key("rooms"), "is empty: a pattern such as * or team:* expected");
    }
    checker.range(&key("concurrency"), endpoint.concurrency, 1..=1_024);
    for (name, span) in
        [("max_age", endpoint.max_age), ("retry_delay", endpoint.retry_delay), ("timeout", endpoint.timeout)]
    {
        if let Some(span) = span {
            checker.span(&key(name), *span, Duration::from_millis(1)..=Duration::from_secs(366 * 86_400));
        }
    }
    if endpoint.secrets.is_empty() {
        let who = if endpoint.name.is_empty() { path } else { &endpoint.name };
        checker.warn(&key("secrets"), format!("there is none: callbacks to {who} are not signed"));
    }
    for one in &endpoint.secrets {
        secret(&key("secrets"), one, checker);
    }
}

fn secret(key: &str, secret: &Secret, checker: &mut Checker<'_>) {
    match secret.expose().trim().strip_prefix("whsec_").map(|text| BASE64.decode(text)) {
        Some(Ok(bytes)) if bytes.is_empty() => checker.mistake(key, "there is nothing after whsec_"),
        Some(Ok(bytes)) if bytes.len() < SECRET_BYTES_MIN => {
            checker.warn(key, format!("{} bytes are few: {SECRET_BYTES_MIN} to 64 are usual", bytes.len()));
        }
        Some(Ok(_)) => {}
        Some(Err(_)) | None => checker.mistake(key, "whsec_ and base64 expected"),
    }
}
