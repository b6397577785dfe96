//! `millstream doctor`: what is wrong, why it matters, and what mends it.
//!
//! Looks and changes nothing: it may be run at any time, beside everything.
//!
//! **Invariant:** a check that can't be made hides no other: each has its own time, and what one server
//! doesn't answer is no reason not to ask the other.

mod endpoints;
mod groups;
mod nodes;
mod postgres;
mod redis;
mod report;
mod settings;
mod system;

use std::future::Future;
use std::time::Duration;

use self::report::Finding;
use super::ending::Outcome;
use crate::config::{Settings, Span};
use crate::error::{Error, Kind, Result};
use crate::model::Partitions;
use crate::service::SettingsArgs;
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry;

/// Looks for what is wrong, and says why it matters and how to mend it.
///
/// Changes nothing. Run it where the processes run, with their settings: what it can't see from here
/// it says so. Exits with 1 if a check fails; with --strict, warnings count too.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream doctor --config /etc/millstream.toml\n  \
    millstream doctor --strict --timeout 2s\n  \
    millstream doctor --json | jq -r '.[] | select(.status == \"fail\") | .check + \": \" + .fix'")]
pub(super) struct DoctorArgs {
    /// Warnings end with 1 as well.
    #[arg(long)]
    strict: bool,
    /// Longest time for each check.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// From which age on what a group has not settled counts as stuck, beyond what its settings let wait.
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    stuck_after: Duration,
    /// As JSON: an array of {check, status, what, why, fix}; status is ok, warn, fail or skipped.
    #[arg(long)]
    json: bool,
}

/// What the checks look at.
struct Patient {
    settings: Settings,
    /// Nothing if the setting can't be used.
    partitions: Option<Partitions>,
    redis: Result<Redis, String>,
    store: Result<Store, String>,
    timeout: Duration,
    stuck_after: Duration,
}

/// Looks at everything, and tells.
pub(super) async fn run(args: DoctorArgs, flags: &SettingsArgs) -> Outcome {
    let (mut settings, mut findings) = settings::check(flags);
    settings.log.level = "error".to_owned();
    telemetry::init(&settings.log)?;
    let patient = Patient::examine(settings, &args).await;
    let (redis, postgres, system, endpoints, groups) = tokio::join!(
        Box::pin(redis::check(&patient)),
        Box::pin(postgres::check(&patient)),
        Box::pin(system::check(&patient)),
        Box::pin(endpoints::check(&patient)),
        Box::pin(groups::check(&patient)),
    );
    for family in [redis, postgres, system, endpoints, groups] {
        findings.extend(family);
    }
    report::tell(&findings, args.json, args.strict)
}

impl Patient {
    async fn examine(mut settings: Settings, args: &DoctorArgs) -> Self {
        // No check may wait for longer than it is given.
        let most = u64::try_from(args.timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        let bound = |span: &mut Span| {
            if **span > args.timeout {
                *span = Span::millis(most);
            }
        };
        bound(&mut settings.redis.connect_timeout);
        bound(&mut settings.database.connect_timeout);
        bound(&mut settings.database.statement_timeout);
        let redis = Redis::connect(&settings.redis).await.map_err(|error| error.to_string());
        Self {
            partitions: Partitions::new(settings.redis.partitions).ok(),
            redis,
            store: Store::connect(&settings.database).map_err(|error| error.to_string()),
            settings,
            timeout: args.timeout,
            stuck_after: args.stuck_after,
        }
    }

    /// The findings of a check, or that it did not end.
    async fn bounded(&self, check: &str, look: impl Future<Output = Result<Vec<Finding>>>) -> Vec<Finding> {
        let timed_out = || Error::new(Kind::Internal, format!("get an answer within {:?}", self.timeout));
        let found = tokio::time::timeout(self.timeout, look).await.unwrap_or_else(|_| Err(timed_out()));
        found
            .unwrap_or_else(|error| vec![Finding::skipped(check, format!("could not be looked at: failed to {error}"))])
    }
}
