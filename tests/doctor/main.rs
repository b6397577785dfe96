//! `millstream doctor`: each finding provoked on real servers, with the fix that mends it.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod running;
mod servers;

use serde_json::Value;
use support::{Said, free_port, millstream};

/// What the doctor found.
struct Report {
    findings: Vec<Value>,
    code: Option<i32>,
}

impl Report {
    fn of(said: &Said) -> Self {
        let findings = said.json().as_array().unwrap().clone();
        for finding in &findings {
            for field in ["check", "status", "what", "why", "fix"] {
                assert!(finding[field].is_string(), "{field} is missing in {finding}");
            }
            let status = finding["status"].as_str().unwrap();
            assert!(["ok", "warn", "fail", "skipped"].contains(&status), "{finding}");
            let told = !finding["why"].as_str().unwrap().is_empty() && !finding["fix"].as_str().unwrap().is_empty();
            assert_eq!(told, ["warn", "fail"].contains(&status), "why and fix belong to what is wrong: {finding}");
        }
        Self { findings, code: said.code }
    }

    /// The findings of a check with this status.
    fn with(&self, check: &str, status: &str) -> Vec<&Value> {
        let fits = |finding: &&Value| finding["check"] == check && finding["status"] == status;
        self.findings.iter().filter(fits).collect()
    }

    fn has(&self, check: &str, status: &str) -> bool {
        !self.with(check, status).is_empty()
    }

    /// The one finding of a check with this status.
    fn one(&self, check: &str, status: &str) -> &Value {
        let found = self.with(check, status);
        assert_eq!(found.len(), 1, "{check} {status} in {:#?}", self.findings);
        found[0]
    }

    /// Whether the room on a disk was looked at. How much there is, is the machine's own affair.
    fn has_measured(&self, check: &str) -> bool {
        let found = self.findings.iter().find(|finding| finding["check"] == check);
        found.is_some_and(|finding| finding["what"].as_str().unwrap().contains("MB free at "))
    }

    fn failed(&self) -> Vec<&Value> {
        self.findings.iter().filter(|finding| finding["status"] == "fail").collect()
    }
}

async fn doctor(args: &[&str], env: &[(String, String)]) -> Report {
    let args: Vec<&str> = ["doctor", "--json"].iter().chain(args).copied().collect();
    Report::of(&millstream(&args, env).await)
}

/// Settings of an installation that nobody runs: with addresses that are free.
fn settings(redis: &str, postgres: &str) -> Vec<(String, String)> {
    let address = || format!("127.0.0.1:{}", free_port());
    let pairs = [
        ("REDIS_URL", redis.to_owned()),
        ("DATABASE_URL", postgres.to_owned()),
        ("MILLSTREAM__REDIS__PREFIX", support::unique("mill")),
        ("MILLSTREAM__REDIS__PARTITIONS", "4".to_owned()),
        ("MILLSTREAM__AUTH__HS256_SECRET", support::SECRET.to_owned()),
        ("MILLSTREAM__API__KEY", support::API_KEY.to_owned()),
        ("MILLSTREAM__EDGE__LISTEN", address()),
        ("MILLSTREAM__API__LISTEN", address()),
        ("MILLSTREAM__METRICS__LISTEN", address()),
    ];
    pairs.map(|(key, value)| (key.to_owned(), value)).into()
}
