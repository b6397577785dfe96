//! The callback endpoints: reached without posting, and whether they are called.

use super::Patient;
use super::report::Finding;
use crate::callback::{self, Probe};
use crate::cli::output::time_of;
use crate::config::EndpointSettings;
use crate::error::Result;
use crate::model::EntryId;
use crate::stream::Redis;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let endpoints = &patient.settings.callback.endpoints;
    let looks = endpoints.iter().map(async |endpoint| {
        let check = format!("endpoint {}", endpoint.name);
        let mut findings = vec![reached(patient, &check, endpoint).await];
        if let Ok(redis) = &patient.redis {
            findings.extend(patient.bounded(&check, standing(redis, &check, &endpoint.name)).await);
        }
        findings
    });
    futures_util::future::join_all(looks).await.into_iter().flatten().collect()
}

async fn reached(patient: &Patient, check: &str, endpoint: &EndpointSettings) -> Finding {
    const WHY: &str = "its items are attempted again and again, and end in the dead letters";
    match callback::probe(&patient.settings.callback, endpoint, patient.timeout).await {
        Probe::Reached { addr, tls: true } => {
            Finding::ok(check, format!("{addr} answers, its certificate is accepted"))
        }
        Probe::Reached { addr, tls: false } => Finding::ok(check, format!("{addr} takes connections")),
        Probe::BadUrl => {
            Finding::fail(check, "its URL can't be used", "callback workers refuse to start", "correct its url")
        }
        Probe::Private => Finding::fail(
            check,
            "its address is private, and allow_private is off",
            "no item is posted to it, so that settings can't reach what is inside",
            "if it is meant to be inside, set allow_private = true for it",
        ),
        Probe::Unresolved(error) => {
            Finding::fail(check, format!("its name has no address: {error}"), WHY, "correct its url, or the DNS")
        }
        Probe::Unconnected(error) => {
            Finding::fail(check, format!("it takes no connections: {error}"), WHY, "start it, or open the way to it")
        }
        Probe::Untrusted(error) => Finding::fail(
            check,
            format!("TLS fails: {error}"),
            WHY,
            "give it a certificate for its name that the system's certificates vouch for",
        ),
        Probe::TimedOut => {
            Finding::fail(check, format!("no connection within {:?}", patient.timeout), WHY, "open the way to it")
        }
    }
}

async fn standing(redis: &Redis, check: &str, name: &str) -> Result<Vec<Finding>> {
    let at = |ms: u64| time_of(EntryId::new(ms, 0));
    let mut findings = Vec::new();
    if let Some(since) = callback::paused_at(redis, name).await? {
        findings.push(Finding::warn(
            check,
            format!("paused since {}", at(since)),
            "it answered 410, or somebody paused it: what comes for it waits in the log, which isn't trimmed meanwhile",
            format!("millstream endpoints resume {name}"),
        ));
    }
    if let Some(until) = callback::waits_until(redis, name).await? {
        findings.push(Finding::warn(
            check,
            format!("asked to be left alone until {}", at(until)),
            "it answered with Retry-After: what comes for it waits in the log",
            "nothing, if it is busy; otherwise look why it says so",
        ));
    }
    Ok(findings)
}
