//! Values by key, each with its source; later layers win.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use toml::{Table, Value};

use super::key::{self, Key};
use super::mistake::Findings;
use super::{Preset, Settings, Source};

const PRESET: &str = "archive.preset";
const ENDPOINTS: &str = "callback.endpoints";

/// A value that a layer gives to a key.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) path: String,
    pub(super) value: Value,
    pub(super) source: Source,
    /// The key as the operator wrote it: a path or a variable.
    pub(super) written: String,
}

/// All values so far.
#[derive(Debug)]
pub(super) struct Tree {
    values: BTreeMap<String, (Value, Source)>,
}

impl Tree {
    /// The defaults.
    pub(super) fn defaults() -> Self {
        let named = key::all().iter().filter(|key| !key.path.contains('*'));
        let set = named.filter_map(|key| Some((key.path.clone(), (key.default.clone()?, Source::Default))));
        Self { values: set.collect() }
    }

    /// Puts a layer over what is there. What doesn't fit is a mistake, and what was there stays.
    pub(super) fn apply(&mut self, layer: Vec<Given>, findings: &mut Findings) {
        let fitting: Vec<_> = layer.into_iter().filter(|given| fits(given, findings)).collect();
        // A preset stands for the values it sets, so they come before what its own layer says beside it.
        if let Some(preset) = fitting.iter().rfind(|given| given.path == PRESET) {
            self.apply_preset(preset);
        }
        for Given { path, value, source, .. } in fitting {
            self.values.insert(path, (value, source));
        }
    }

    /// What a key has, and where from.
    pub(super) fn get(&self, path: &str) -> Option<&(Value, Source)> {
        self.values.get(path)
    }

    /// Where the value of a key came from.
    pub(super) fn source(&self, path: &str) -> Source {
        self.values.get(path).map_or(Source::Default, |(_, source)| source.clone())
    }

    /// Sets a value that was made up from others.
    pub(super) fn set(&mut self, path: String, value: Value, source: Source) {
        self.values.insert(path, (value, source));
    }

    /// The numbers of the endpoints.
    pub(super) fn endpoints(&self) -> BTreeSet<usize> {
        let below = self.values.keys().filter_map(|path| path.strip_prefix(ENDPOINTS)?.strip_prefix('.'));
        below.filter_map(|rest| rest.split('.').next()?.parse().ok()).collect()
    }

    /// The keys that have a value, in the order of their declaration.
    pub(super) fn in_order(&self) -> Vec<(&'static Key, String)> {
        let mut order = Vec::new();
        for key in key::all() {
            match key.path.split_once('*') {
                None => order.push((key, key.path.clone())),
                Some((before, after)) => {
                    order.extend(self.endpoints().iter().map(|number| (key, format!("{before}{number}{after}"))));
                }
            }
        }
        order
    }

    /// The values as settings.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let mut root = Table::new();
        for (path, (value, _)) in &self.values {
            if !path.starts_with(ENDPOINTS) {
                insert(&mut root, path, value.clone());
            }
        }
        let mut endpoints = Vec::new();
        for number in self.endpoints() {
            let prefix = format!("{ENDPOINTS}.{number}.");
            let mut endpoint = Table::new();
            for (path, (value, _)) in self.values.iter().filter(|(path, _)| path.starts_with(&prefix)) {
                insert(&mut endpoint, &path[prefix.len()..], value.clone());
            }
            endpoints.push(Value::Table(endpoint));
        }
        insert(&mut root, ENDPOINTS, Value::Array(endpoints));
        Settings::deserialize(Value::Table(root)).map_err(|error| error.message().to_owned())
    }

    fn apply_preset(&mut self, given: &Given) {
        let Ok(preset) = Preset::deserialize(given.value.clone()) else { return };
        let (rows, delay) = preset.sizes();
        let rows = Value::Integer(i64::try_from(rows).unwrap_or(i64::MAX));
        let source = Source::Preset(preset, Box::new(given.source.clone()));
        self.set("archive.max_rows".into(), rows, source.clone());
        self.set("archive.max_delay".into(), Value::String(delay.to_string()), source);
    }
}

fn fits(given: &Given, findings: &mut Findings) -> bool {
    let Some(key) = key::find(&given.path) else {
        let nearest = key::nearest(&given.path).map(|near| as_written(&given.source, &near));
        findings.unknown(&given.written, given.source.clone(), nearest);
        return false;
    };
    if let Some(objection) = key.objection(&given.value) {
        findings.mistake(&given.written, given.source.clone(), objection);
        return false;
    }
    true
}

/// A key as it has to be written where this one came from.
fn as_written(source: &Source, path: &str) -> String {
    match source {
        Source::Variable(_) | Source::SecretFile { .. } => super::environment::variable(path),
        _ => path.to_owned(),
    }
}

fn insert(table: &mut Table, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), value);
        }
        Some((first, rest)) => {
            let below = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(below) = below {
                insert(below, rest, value);
            }
        }
    }
}
