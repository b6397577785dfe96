//! Settings in variables of the environment, and in flags.
//!
//! `MILLSTREAM__EDGE__LISTEN` is `edge.listen`. A secret's variable may end in `_FILE` and name a
//! file that holds it. The names that earlier systems used are understood too, and lose against the
//! new ones.

use std::path::{Path, PathBuf};

use toml::Value;

use super::Source;
use super::key::{self, Shape};
use super::mistake::Findings;
use super::tree::{Given, Tree};

const PREFIX: &str = "MILLSTREAM__";
const FILE: &str = "_FILE";

/// Old names with the keys they set (mission, tables B, C and F).
const OLD: &[(&str, &str)] = &[
    ("DATABASE_URL", "database.url"),
    ("REDIS_URL", "redis.url"),
    ("WS_BATCH_SIZE", "archive.max_rows"),
    ("WS_FLUSH_INTERVAL", "archive.max_delay"),
    ("CALLBACK_MAX_RETRIES", "callback.max_retries"),
    ("CALLBACK_RETRY_DELAY_SECONDS", "callback.retry_delay"),
    ("CALLBACK_TIMEOUT_SECONDS", "callback.timeout"),
];

/// Old names that make an endpoint: variable, name, kind.
const ENDPOINTS: &[(&str, &str, &str)] =
    &[("DATA_CALLBACK_URL", "data", "data"), ("ROOM_EVENT_CALLBACK_URL", "room-events", "room_events")];

/// Beginnings of old names whose kinds of callback this version does not have yet.
const LATER: &[(&str, &str)] =
    &[("CHAT_HISTORY_", "chat_history"), ("SESSION_HISTORY_", "session_history"), ("PERIODIC_SYNC_", "periodic_sync")];

/// The variable of a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Reads all variables that are ours: old names first, so that the new ones win.
pub(super) fn read(variables: &[(String, String)], findings: &mut Findings) -> Vec<Given> {
    let mut given = Vec::new();
    for (old, path) in OLD {
        if let Some(text) = old_value(variables, old) {
            given.extend(one(old, path, text));
        } else if let Some(file) = old_value(variables, &format!("{old}{FILE}")) {
            given.extend(from_file(&format!("{old}{FILE}"), path, file, findings));
        }
    }
    for (name, text) in variables {
        match name.strip_prefix(PREFIX) {
            Some(rest) => given.extend(ours(variables, name, rest, text, findings)),
            None => remark(name, text, findings),
        }
    }
    given
}

/// Reads `--set key=value` flags.
pub(super) fn flags(set: &[String], findings: &mut Findings) -> Vec<Given> {
    let mut given = Vec::new();
    for flag in set {
        let Some((path, text)) = flag.split_once('=') else {
            findings.mistake(flag, Source::Flag, "key=value expected");
            continue;
        };
        let path = path.trim().to_lowercase();
        let value = key::find(&path).map_or_else(|| Value::String(text.to_owned()), |key| key.read(text));
        given.push(Given { written: path.clone(), path, value, source: Source::Flag });
    }
    given
}

/// Adds the endpoints that are given by the old names, unless the settings name them already.
pub(super) fn endpoints(variables: &[(String, String)], tree: &mut Tree, findings: &mut Findings) {
    let mut next = tree.endpoints().last().map_or(0, |last| last + 1);
    for (variable, name, kind) in ENDPOINTS {
        let Some(url) = old_value(variables, variable) else { continue };
        let text = |text: &str| Value::String(text.to_owned());
        let named = |number: &usize| tree.get(&format!("callback.endpoints.{number}.name"));
        if tree.endpoints().iter().filter_map(named).any(|(value, _)| *value == text(name)) {
            findings.warn(*variable, format!("has no effect: an endpoint named {name} is set up already"));
            continue;
        }
        let secret = tree.get("callback.secret").map(|(secret, _)| secret.clone());
        let secrets = secret.into_iter().filter(|secret| secret.as_str().is_some_and(|text| !text.is_empty()));
        let fields = [
            ("name", text(name)),
            ("url", text(url)),
            ("secrets", Value::Array(secrets.collect())),
            ("kinds", Value::Array(vec![text(kind)])),
        ];
        for (field, value) in fields {
            let source = Source::Variable((*variable).to_owned());
            tree.set(format!("callback.endpoints.{next}.{field}"), value, source);
        }
        next += 1;
    }
}

fn ours(variables: &[(String, String)], name: &str, rest: &str, text: &str, findings: &mut Findings) -> Option<Given> {
    let path = rest.to_lowercase().replace("__", ".");
    if key::find(&path).is_some() {
        return one(name, &path, text);
    }
    let secret = name.strip_suffix(FILE).zip(path.strip_suffix(&FILE.to_lowercase()));
    let secret = secret
        .filter(|(_, path)| key::find(path).is_some_and(|key| matches!(key.shape, Shape::Secret | Shape::SecretList)));
    let Some((plain, path)) = secret else {
        return Some(unknown(name, &path, text));
    };
    if variables.iter().any(|(other, _)| other == plain) {
        findings.mistake(name, Source::Variable(name.to_owned()), format!("{plain} is set as well: which one counts?"));
        return None;
    }
    from_file(name, path, text, findings)
}

fn one(name: &str, path: &str, text: &str) -> Option<Given> {
    let key = key::find(path)?;
    let source = Source::Variable(name.to_owned());
    Some(Given { path: path.to_owned(), value: key.read(text), source, written: name.to_owned() })
}

fn unknown(name: &str, path: &str, text: &str) -> Given {
    let source = Source::Variable(name.to_owned());
    Given { path: path.to_owned(), value: Value::String(text.to_owned()), source, written: name.to_owned() }
}

fn from_file(name: &str, path: &str, file: &str, findings: &mut Findings) -> Option<Given> {
    match std::fs::read_to_string(Path::new(file)) {
        Ok(text) => {
            let source = Source::SecretFile { variable: name.to_owned(), path: PathBuf::from(file) };
            let value = key::find(path)?.read(text.trim_end_matches(['\r', '\n']));
            Some(Given { path: path.to_owned(), value, source, written: name.to_owned() })
        }
        Err(error) => {
            let what = format!("the file {file} can't be read: {error}");
            findings.mistake(name, Source::Variable(name.to_owned()), what);
            None
        }
    }
}

/// The value of an old name. Earlier systems' start scripts pass them on empty when they are not set.
fn old_value<'a>(variables: &'a [(String, String)], name: &str) -> Option<&'a str> {
    variables.iter().find_map(|(other, text)| (other == name && !text.is_empty()).then_some(text.as_str()))
}

/// Says what happens with variables that look as if something should.
fn remark(name: &str, text: &str, findings: &mut Findings) {
    if let Some((_, kind)) = LATER.iter().find(|(prefix, _)| name.starts_with(prefix) && !text.is_empty()) {
        findings.warn(
            name,
            format!("is understood, but callbacks of kind {kind} come with a later version: nothing is sent"),
        );
    }
    if name.starts_with("MILLSTREAM_") {
        let bare = |name: &str| name.replace(['_', '.'], "").to_lowercase();
        let meant = key::all().iter().find(|key| bare(name) == format!("millstream{}", bare(&key.path)));
        if let Some(key) = meant {
            findings.warn(name, format!("is not read; did you mean {}?", variable(&key.path)));
        }
    }
}
