//! An endpoint as its settings describe it, checked.
//!
//! Everything that can be wrong with an endpoint's settings is found here, before anything starts,
//! and all of it in one run. What can only be seen when connecting (a name that resolves to a
//! private address) is the business of [`guard`](super::guard).

use std::time::Duration;

use tracing::warn;
use url::Url;

use super::retry::Policy;
use super::signature::Signer;
use crate::config::{CallbackSettings, EndpointKind, EndpointSettings, StartFrom};
use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryKind, Room};

/// Longest name of an endpoint: it is part of keys and a label of metrics.
const NAME_BYTES_MAX: usize = 64;

/// One endpoint: where to post, what it wants, and how long to try.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Its name, a label from a closed set.
    pub(super) name: String,
    group: String,
    /// Where to post. Never logged: it may hold a secret.
    pub(super) url: Url,
    /// What signs its callbacks.
    pub(super) signer: Signer,
    /// What it wants.
    pub(super) wants: Wants,
    /// Attempts under way at the same time.
    pub(super) concurrency: usize,
    /// Where it begins when it is new.
    pub(super) start: StartFrom,
    /// When to try again, and how often.
    pub(super) policy: Policy,
    /// One deadline from connecting to the end of the answer's body.
    pub(super) timeout: Duration,
    /// Whether it may be on a private address.
    pub(super) allow_private: bool,
}

impl Endpoint {
    /// All endpoints of the settings.
    ///
    /// # Errors
    /// [`Kind::Config`] with every mistake of every endpoint, each naming its key.
    pub(super) fn all(settings: &CallbackSettings) -> Result<Vec<Self>> {
        let mut mistakes = Vec::new();
        let mut endpoints: Vec<Self> = Vec::new();
        for (index, one) in settings.endpoints.iter().enumerate() {
            match Self::check(settings, one) {
                Ok(endpoint) if endpoints.iter().any(|other| other.name == endpoint.name) => {
                    mistakes.push(format!("callback.endpoints[{index}].name: {:?} is taken already", endpoint.name));
                }
                Ok(endpoint) => endpoints.push(endpoint),
                Err(wrong) => {
                    mistakes.extend(wrong.into_iter().map(|what| format!("callback.endpoints[{index}].{what}")));
                }
            }
        }
        if mistakes.is_empty() { Ok(endpoints) } else { Err(Error::new(Kind::Config, mistakes.join("; "))) }
    }

    /// Its consumer group, `callback:<name>`.
    pub(super) fn group(&self) -> &str {
        &self.group
    }

    fn check(section: &CallbackSettings, one: &EndpointSettings) -> Result<Self, Vec<String>> {
        let mut mistakes = Vec::new();
        if !is_name(&one.name) {
            mistakes.push(format!("name: {:?} is not 1 to {NAME_BYTES_MAX} of a-z 0-9 - _", one.name));
        }
        let url = check_url(&one.url).map_err(|what| mistakes.push(format!("url: {what}"))).ok();
        let signer = Signer::new(&one.secrets).map_err(|what| mistakes.push(format!("secrets: {what}"))).ok();
        let timeout = *one.timeout.unwrap_or(section.timeout);
        if timeout.is_zero() {
            mistakes.push("timeout: must be longer than nothing".into());
        }
        if one.concurrency == 0 || one.concurrency > CONCURRENCY_MAX {
            mistakes.push(format!("concurrency: {} is not 1 to {CONCURRENCY_MAX}", one.concurrency));
        }
        if one.kinds.is_empty() {
            mistakes.push("kinds: an endpoint that wants nothing".into());
        }
        let (Some(url), Some(signer), true) = (url, signer, mistakes.is_empty()) else { return Err(mistakes) };
        if signer.is_weak() {
            warn!(endpoint = one.name, "a secret of {} is shorter than 24 bytes", one.name);
        }
        let retry_delay = *one.retry_delay.unwrap_or(section.retry_delay);
        Ok(Self {
            name: one.name.clone(),
            group: format!("callback:{}", one.name),
            url,
            signer,
            wants: Wants::new(&one.kinds, &one.rooms),
            concurrency: one.concurrency,
            start: one.start,
            policy: Policy {
                max_retries: one.max_retries.unwrap_or(section.max_retries),
                max_age: one.max_age.map(|age| *age),
                delay: retry_delay,
                delay_max: (*section.retry_delay_max).max(retry_delay),
            },
            timeout,
            allow_private: one.allow_private.unwrap_or(section.allow_private),
        })
    }
}

/// Attempts of one endpoint at a time: each holds a socket and up to half a megabyte of buffers.
const CONCURRENCY_MAX: usize = 4_096;

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.bytes().all(allowed)
}

/// The message never repeats the URL: it may hold a secret.
fn check_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|e| format!("can't be read: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{:?} is neither http nor https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user or password in it is not supported; sign with a secret instead".into());
    }
    Ok(url)
}

/// What an endpoint wants.
#[derive(Debug, Clone)]
pub(super) struct Wants {
    messages: bool,
    events: bool,
    rooms: String,
}

impl Wants {
    fn new(kinds: &[EndpointKind], rooms: &str) -> Self {
        let any = |wanted: EndpointKind| kinds.iter().any(|kind| *kind == wanted || *kind == EndpointKind::Data);
        Self { messages: any(EndpointKind::Message), events: any(EndpointKind::RoomEvents), rooms: rooms.to_owned() }
    }

    /// Whether it wants this entry.
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let kind = match entry.kind {
            EntryKind::Message => self.messages,
            EntryKind::Event => self.events,
        };
        kind && self.takes_room(&entry.room)
    }

    /// A room of the system is wanted only by a pattern that says so with its first letter, so
    /// that `*` doesn't hand everybody's inbox to everybody's endpoint.
    fn takes_room(&self, room: &Room) -> bool {
        (!room.is_system() || self.rooms.starts_with('@')) && matches(&self.rooms, room)
    }
}

/// Whether `name` is of the form `pattern`, in which `*` stands for anything, nothing included.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star stood, and how much of the name it has taken: on a mismatch it takes one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, n));
            p += 1;
        } else if pattern.get(p) == Some(&name[n]) {
            (p, n) = (p + 1, n + 1);
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            (p, n) = (at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::config::Secret;
    use crate::model::EntryId;

    fn named(name: &str, url: &str) -> EndpointSettings {
        EndpointSettings { name: name.into(), url: url.into(), ..EndpointSettings::default() }
    }

    fn checked(endpoints: Vec<EndpointSettings>) -> Result<Vec<Endpoint>> {
        Endpoint::all(&CallbackSettings { endpoints, ..CallbackSettings::default() })
    }

    #[test]
    fn every_mistake_is_named_in_one_run() {
        let secrets = vec![Secret::new("whsec_!!!")];
        let error = checked(vec![
            named("Orders", "ftp://example.org/"),
            named("ok", "https://user:hunter2@example.org/"),
            EndpointSettings { secrets, timeout: Some(crate::config::Span::secs(0)), ..named("a", "https://x.org") },
            named("twice", "https://example.org"),
            named("twice", "https://example.org"),
            EndpointSettings { kinds: Vec::new(), concurrency: 0, ..named("b", "nonsense") },
        ])
        .unwrap_err();
        assert_eq!(error.kind(), Kind::Config);
        let text = error.to_string();
        for expected in [
            "endpoints[0].name",
            "endpoints[0].url",
            "endpoints[1].url",
            "endpoints[2].secrets",
            "endpoints[2].timeout",
            "endpoints[4].name",
            "endpoints[5].kinds",
            "endpoints[5].concurrency",
            "endpoints[5].url",
        ] {
            assert!(text.contains(expected), "{expected} is missing in {text}");
        }
        assert!(!text.contains("hunter2"), "a secret is printed: {text}");
    }

    #[test]
    fn an_endpoint_takes_the_sections_values_where_it_has_none() {
        let endpoints = checked(vec![named("a", "https://example.org/hook")]).unwrap();
        assert_eq!(endpoints[0].group(), "callback:a");
        assert_eq!(endpoints[0].policy.max_retries, 3);
        assert_eq!(endpoints[0].timeout, Duration::from_secs(30));
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, room, expected) in [
            ("*", "lobby", true),
            ("team:*", "team:", true),
            ("team:*", "steam:1", false),
            ("*:a*b", "x:a:ab", true),
            ("*:a*b", "x:a:ac", false),
            ("lobby", "lobby", true),
            ("lobby", "lobby2", false),
            ("", "lobby", false),
        ] {
            assert_eq!(matches(pattern, room), expected, "{pattern} {room}");
        }
    }

    #[test]
    fn rooms_of_the_system_are_for_patterns_that_name_them() {
        let takes = |pattern: &str, room: &str| {
            Wants::new(&[EndpointKind::Data], pattern).takes_room(&Room::new(room).unwrap())
        };
        assert!(takes("*", "lobby") && !takes("*", "@all") && !takes("*all", "@all"));
        assert!(takes("@*", "@user:alice") && !takes("@*", "lobby"));
    }

    #[test]
    fn kinds_choose_messages_and_events() {
        let entry = |kind| Entry {
            id: EntryId::new(1, 0),
            room: Room::new("lobby").unwrap(),
            seq: 1,
            kind,
            envelope: Bytes::new(),
        };
        let takes = |kinds: &[EndpointKind]| {
            let wants = Wants::new(kinds, "*");
            (wants.takes(&entry(EntryKind::Message)), wants.takes(&entry(EntryKind::Event)))
        };
        assert_eq!(takes(&[EndpointKind::Message]), (true, false));
        assert_eq!(takes(&[EndpointKind::RoomEvents]), (false, true));
        assert_eq!(takes(&[EndpointKind::Data]), (true, true));
    }
}
