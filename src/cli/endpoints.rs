//! `millstream endpoints`: the callback endpoints, and whether they are called.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde::Serialize;

use super::ending::Outcome;
use super::output::{or_dash, printable};
use super::settings::Installation;
use super::{output, settings};
use crate::callback;
use crate::error::Error;
use crate::model::EntryId;
use crate::service::SettingsArgs;

/// What the group of an endpoint is called.
const GROUP: &str = "callback:";

/// Shows the callback endpoints, pauses and resumes them.
#[derive(Debug, Subcommand)]
pub(super) enum EndpointsCommand {
    /// Lists the endpoints of the settings, and those that left them and still have a group.
    ///
    /// STATE is called, paused (by an operator or by its answer 410), waits (it asked for that with
    /// Retry-After) or left (it isn't in the settings, and the log waits for its group).
    #[command(after_help = "Examples:\n  \
        millstream endpoints list\n  \
        millstream endpoints list --json | jq -r '.[] | select(.state == \"paused\").name'")]
    List(ListArgs),
    /// Stops calling an endpoint, in all workers within a second; what comes for it waits in the log.
    #[command(after_help = "Examples:\n  millstream endpoints pause orders")]
    Pause(NameArgs),
    /// Calls a paused endpoint again, in all workers within a second.
    #[command(after_help = "Examples:\n  millstream endpoints resume orders")]
    Resume(NameArgs),
}

/// How to list.
#[derive(Debug, clap::Args)]
pub(super) struct ListArgs {
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// Which one.
#[derive(Debug, clap::Args)]
pub(super) struct NameArgs {
    /// Its name; that of its group will do too.
    name: String,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// An endpoint, as scripts read it.
#[derive(Debug, Serialize)]
struct Standing {
    name: String,
    group: String,
    state: &'static str,
    /// Since when it is paused, in milliseconds since the epoch.
    paused_at: Option<u64>,
    /// Until when it asked to wait, in milliseconds since the epoch.
    not_before: Option<u64>,
    dead_letters: u64,
}

/// Lists, pauses or resumes.
pub(super) async fn run(command: EndpointsCommand, flags: &SettingsArgs) -> Outcome {
    let here = settings::open(flags).await?;
    match command {
        EndpointsCommand::List(args) => list(&here, &args).await,
        EndpointsCommand::Pause(args) => {
            let name = here.endpoint(&args.name).await?;
            let changed = callback::pause(&here.redis, &name).await?;
            let told = if changed { "paused" } else { "was paused already" };
            tell(&args, &name, changed, &format!("{name} {told}: what comes for it waits in the log"))
        }
        EndpointsCommand::Resume(args) => {
            let name = here.endpoint(&args.name).await?;
            let changed = callback::resume(&here.redis, &name).await?;
            let told = if changed { "is resumed: its workers call it within a second" } else { "was not paused" };
            tell(&args, &name, changed, &format!("{name} {told}"))
        }
    }
}

fn tell(args: &NameArgs, name: &str, changed: bool, text: &str) -> Outcome {
    match args.json {
        true => output::json(&serde_json::json!({ "name": name, "changed": changed })),
        false => output::line(text),
    }
}

async fn list(here: &Installation, args: &ListArgs) -> Outcome {
    let mut standings = Vec::new();
    for name in here.endpoints().await? {
        standings.push(here.standing(name).await?);
    }
    if args.json {
        return output::json(&standings);
    }
    if standings.is_empty() {
        return output::line("no endpoints in the settings, and no groups of any");
    }
    let mut table = output::table(&["name", "group", "state", "since / until", "dead letters"]);
    for one in &standings {
        let at = one.paused_at.or(one.not_before).map(|ms| output::time_of(EntryId::new(ms, 0)));
        table.add_row([
            printable(&one.name),
            printable(&one.group),
            one.state.to_owned(),
            or_dash(at),
            one.dead_letters.to_string(),
        ]);
    }
    output::show(&table)
}

impl Installation {
    fn has_endpoint(&self, name: &str) -> bool {
        self.settings.callback.endpoints.iter().any(|one| one.name == name)
    }

    /// Of the settings, and of the groups.
    async fn endpoints(&self) -> Outcome<BTreeSet<String>> {
        let mut names: BTreeSet<String> = self.settings.callback.endpoints.iter().map(|one| one.name.clone()).collect();
        let groups = self.groups().await?;
        names.extend(groups.iter().filter_map(|group| group.strip_prefix(GROUP)).map(str::to_owned));
        Ok(names)
    }

    async fn endpoint(&self, given: &str) -> Outcome<String> {
        let name = given.strip_prefix(GROUP).unwrap_or(given);
        let known = self.endpoints().await?;
        if known.contains(name) {
            return Ok(name.to_owned());
        }
        let known: Vec<String> = known.into_iter().collect();
        let what = match known.is_empty() {
            true => format!("find the endpoint {name:?}: there are none"),
            false => format!("find the endpoint {name:?}: there are {}", known.join(", ")),
        };
        Err(Error::invalid(what).into())
    }

    async fn standing(&self, name: String) -> Outcome<Standing> {
        let group = format!("{GROUP}{name}");
        let paused_at = callback::paused_at(&self.redis, &name).await?;
        let not_before = callback::waits_until(&self.redis, &name).await?;
        let dead_letters = self.redis.length(&self.redis.keys().dead(&group)).await?;
        let state = match (self.has_endpoint(&name), paused_at, not_before) {
            (false, ..) => "left",
            (true, Some(_), _) => "paused",
            (true, None, Some(_)) => "waits",
            (true, None, None) => "called",
        };
        Ok(Standing { name, group, state, paused_at, not_before, dead_letters })
    }
}
