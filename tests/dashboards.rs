//! What operators are given to watch: the dashboard and the alert rules name only metrics and labels
//! that exist, and every metric that is declared is recorded.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use millstream::telemetry::names::{ALL, Metric, MetricKind};
use serde_json::Value;

/// Labels that Prometheus adds, and that the buckets of histograms have.
const OF_PROMETHEUS: [&str; 4] = ["instance", "job", "le", "alertname"];
/// Series of a histogram.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The declaration that a series belongs to.
fn declared(series: &str) -> Option<&'static Metric> {
    let exact = ALL.iter().find(|metric| metric.name == series);
    if let Some(metric) = exact {
        // The exporter gives a histogram only as its three series.
        return (!matches!(metric.kind, MetricKind::Histogram(_))).then_some(metric);
    }
    let name = OF_HISTOGRAMS.iter().find_map(|suffix| series.strip_suffix(suffix))?;
    ALL.iter().find(|metric| metric.name == name && matches!(metric.kind, MetricKind::Histogram(_)))
}

/// The series of an expression, each with what follows it.
fn series(expression: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut rest = expression;
    while let Some(at) = rest.find("millstream_") {
        let end = rest[at..].find(|c| !is_word(c)).map_or(rest.len(), |length| at + length);
        found.push((&rest[at..end], &rest[end..]));
        rest = &rest[end..];
    }
    found
}

/// Names of labels in `{a="b", c=~"d"}`. Values may hold anything but a quote.
fn matched(selector: &str) -> Vec<&str> {
    let names = selector.split('"').step_by(2);
    names
        .filter_map(|part| {
            let part = part.trim_start_matches([',', ' ']).split(['=', '!']).next()?.trim();
            (!part.is_empty()).then_some(part)
        })
        .collect()
}

/// Names in the parentheses after `by`, `on` and their like.
fn grouped(expression: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for keyword in ["by (", "on (", "ignoring (", "without (", "group_left (", "by(", "on("] {
        for part in expression.split(keyword).skip(1) {
            let inside = part.split(')').next().unwrap_or_default();
            names.extend(inside.split(',').map(str::trim).filter(|name| !name.is_empty()));
        }
    }
    names
}

/// Names in `{{ name }}` and `{{ $labels.name }}`.
fn templated(text: &str) -> Vec<&str> {
    let inside = text.split("{{").skip(1).filter_map(|part| part.split("}}").next());
    inside
        .map(|part| part.trim().split('|').next().unwrap_or_default().trim())
        .filter_map(|part| match part.strip_prefix("$labels.") {
            Some(label) => Some(label),
            None if part.starts_with('$') || part.starts_with('.') => None,
            None => Some(part),
        })
        .collect()
}

/// What is wrong with an expression, and with the labels that texts beside it show.
fn mistakes(place: &str, expression: &str, texts: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut labels: BTreeSet<&str> = OF_PROMETHEUS.into();
    for (name, rest) in series(expression) {
        let Some(metric) = declared(name) else {
            wrong.push(format!("{place}: {name} is no metric of ours"));
            continue;
        };
        labels.extend(metric.labels);
        let selector = rest.strip_prefix('{').and_then(|rest| rest.split('}').next()).unwrap_or_default();
        for label in matched(selector) {
            if !metric.labels.contains(&label) && !OF_PROMETHEUS.contains(&label) {
                wrong.push(format!("{place}: {name} has no label {label}"));
            }
        }
    }
    let shown = texts.iter().flat_map(|text| templated(text));
    for label in grouped(expression).into_iter().chain(shown) {
        if !labels.contains(label) {
            wrong.push(format!("{place}: nothing in `{expression}` has a label {label}"));
        }
    }
    wrong
}

fn dashboard() -> Value {
    serde_json::from_str(&read("config/grafana/millstream.json")).expect("the dashboard is JSON")
}

/// Expression and legend of every target, with the title of its panel.
fn targets(panels: &Value, found: &mut Vec<(String, String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((text(panel, "title"), text(target, "expr"), text(target, "legendFormat")));
        }
        targets(&panel["panels"], found);
    }
}

/// The fields of each alert rule: `name: value`, one line each, as the file is written.
fn rules() -> Vec<(String, String, Vec<String>)> {
    let text = read("config/alerts.yml");
    let rules = text.split("- alert: ").skip(1);
    rules
        .map(|rule| {
            let name = rule.lines().next().unwrap_or_default().trim().to_owned();
            let field = |field: &str| {
                let line = rule.lines().find_map(|line| line.trim().strip_prefix(field)?.strip_prefix(": "));
                line.unwrap_or_default().to_owned()
            };
            let expression = field("expr");
            (name, expression, vec![field("summary"), field("description")])
        })
        .collect()
}

#[test]
fn the_dashboard_names_only_metrics_and_labels_that_exist() {
    let dashboard = dashboard();
    let mut found = Vec::new();
    targets(&dashboard["panels"], &mut found);
    assert!(found.len() > 40, "{} targets: was the form of the dashboard changed?", found.len());
    let mut wrong: Vec<String> = Vec::new();
    for (title, expression, legend) in &found {
        assert!(!series(expression).is_empty(), "{title}: `{expression}` shows nothing of ours");
        wrong.extend(mistakes(title, expression, &[legend]));
    }
    for variable in dashboard["templating"]["list"].as_array().into_iter().flatten() {
        let query = variable["query"].as_str().or(variable["query"]["query"].as_str()).unwrap_or_default();
        let Some(inside) = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) else {
            continue;
        };
        let (expression, label) = inside.rsplit_once(',').expect("a metric and a label");
        wrong.extend(mistakes("variables", &format!("sum by ({}) ({expression})", label.trim()), &[]));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_alert_rules_name_only_metrics_and_labels_that_exist_and_say_what_to_do() {
    let rules = rules();
    assert!(rules.len() >= 12, "{} rules: was the form of the file changed?", rules.len());
    let mut wrong: Vec<String> = Vec::new();
    for (name, expression, texts) in &rules {
        assert!(!expression.is_empty(), "{name}: no expr on one line");
        assert!(texts.iter().all(|text| text.len() > 20), "{name}: summary and description, on one line each");
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        wrong.extend(mistakes(name, expression, &texts));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_alert_has_its_paragraph_in_the_operations_guide() {
    let guide = read("docs/operations.md");
    let missing: Vec<_> =
        rules().into_iter().map(|rule| rule.0).filter(|name| !guide.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "docs/operations.md says nothing of {missing:?}");
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("telemetry/names.rs") {
            let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            // What only a test records is not recorded.
            text.push_str(source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default());
        }
    }
}

/// The constants of the table, with the names they stand for.
fn constants() -> Vec<(String, String)> {
    let table = read("src/telemetry/names.rs");
    let rows = table.lines().filter_map(|line| {
        let (constant, rest) = line.strip_prefix("    ")?.split_once(" = ")?;
        let name = rest.split('"').nth(1)?;
        name.starts_with("millstream_").then(|| (constant.to_owned(), name.to_owned()))
    });
    rows.collect()
}

#[test]
fn every_metric_that_is_declared_is_recorded() {
    let constants = constants();
    assert_eq!(constants.len(), ALL.len(), "the test reads the table line by line");
    let mut text = String::new();
    sources(&root().join("src"), &mut text);
    let uses = |constant: &str| {
        let needle = format!("names::{constant}");
        text.match_indices(&needle).any(|(at, _)| !text[at + needle.len()..].starts_with(is_word))
    };
    let unused: Vec<_> = constants.iter().filter(|(constant, _)| !uses(constant)).map(|(_, name)| name).collect();
    assert!(unused.is_empty(), "declared and never recorded: {unused:?}");
}

#[test]
fn mistakes_are_found() {
    let wrong =
        mistakes("x", r#"sum by (group, room) (rate(millstream_group_done_total{grup="a",job=~".*"}[5m]))"#, &[]);
    assert_eq!(wrong.len(), 2, "{wrong:?}");
    assert_eq!(mistakes("x", "millstream_nothing_total", &[]).len(), 1);
    assert_eq!(mistakes("x", "millstream_publish_seconds", &[]).len(), 1);
    assert_eq!(
        mistakes("x", "millstream_publish_seconds_bucket", &["{{le}} {{ $labels.room }} {{ $value }}"]).len(),
        1
    );
}
