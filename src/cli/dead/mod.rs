//! `millstream dead`: entries that groups gave up: seen, given back, removed.
//!
//! **Invariant:** what is given back is in its group's own stream before it leaves the dead letters
//! ([`retry_dead`](crate::stream::Redis::retry_dead)); only `purge` destroys.

mod deeds;
mod filter;
mod list;
mod show;

use clap::Subcommand;

use self::filter::Filter;
use super::ending::Outcome;
use super::settings::Installation;
use super::when;
use crate::error::Error;
use crate::model::EntryId;
use crate::service::SettingsArgs;
use crate::stream::DeadLetter;

const LIST_EXAMPLES: &str = "Examples:\n  \
    millstream dead list\n  \
    millstream dead list callback:orders --reason attempts_exhausted --limit 500\n  \
    millstream dead list archive --from -1h --json | jq -r '.[].error'";
const SHOW_EXAMPLES: &str = "Examples:\n  \
    millstream dead show 1700000000000-0\n  \
    millstream dead show 1700000000000-0 --group callback:orders --json";
const RETRY_EXAMPLES: &str = "Examples:\n  \
    millstream dead retry --group callback:orders\n  \
    millstream dead retry --group archive --reason data --execute\n  \
    millstream dead retry --id 1700000000000-0 --execute --json";
const PURGE_EXAMPLES: &str = "Examples:\n  \
    millstream dead purge --group callback:orders --to -30d\n  \
    millstream dead purge --group callback:gone --execute\n  \
    millstream dead purge --id 1700000000000-0 --execute";

/// Shows the entries that groups gave up, gives them back, or removes them.
#[derive(Debug, Subcommand)]
pub(super) enum DeadCommand {
    /// Lists the dead letters of a group, or of all groups; oldest first.
    ///
    /// ID is the letter's own; ORIGINAL is the entry's id in the log.
    #[command(after_help = LIST_EXAMPLES, after_long_help = format!("{LIST_EXAMPLES}\n\n{}", when::FORMS))]
    List(list::ListArgs),
    /// Shows everything of one dead letter, with what was sent.
    #[command(after_help = SHOW_EXAMPLES)]
    Show(show::ShowArgs),
    /// Gives entries back to the group that gave them up, to be delivered beside what is live.
    ///
    /// Shows its plan, and does it with --execute. Mend the cause first: an entry that fails again is
    /// given up again. It comes from the letter itself, so it doesn't matter whether the log still has
    /// it. Delivery is at least once, with the same webhook-id.
    #[command(after_help = RETRY_EXAMPLES, after_long_help = format!("{RETRY_EXAMPLES}\n\n{}", when::FORMS))]
    Retry(deeds::DeedArgs),
    /// Removes dead letters for good.
    ///
    /// Shows its plan, and does it with --execute.
    #[command(after_help = PURGE_EXAMPLES, after_long_help = format!("{PURGE_EXAMPLES}\n\n{}", when::FORMS))]
    Purge(deeds::DeedArgs),
}

/// A dead letter and where it is.
struct Letter {
    group: String,
    id: EntryId,
    letter: DeadLetter,
}

/// Does what is asked for.
pub(super) async fn run(command: DeadCommand, flags: &SettingsArgs) -> Outcome {
    let here = super::settings::open(flags).await?;
    match command {
        DeadCommand::List(args) => list::run(&here, args).await,
        DeadCommand::Show(args) => show::run(&here, &args).await,
        DeadCommand::Retry(args) => deeds::retry(&here, &args).await,
        DeadCommand::Purge(args) => deeds::purge(&here, &args).await,
    }
}

impl Installation {
    /// The groups on the log, by name: those that are there, and those that have only a checkpoint.
    pub(super) async fn groups(&self) -> Outcome<Vec<String>> {
        let mut names = std::collections::BTreeSet::new();
        for p in self.partitions.all() {
            let groups = self.redis.groups(&self.redis.keys().log(p)).await?;
            names.extend(groups.into_iter().map(|group| group.name));
            names.extend(self.redis.checkpoints(p).await?.into_iter().map(|(group, _)| group));
        }
        Ok(names.into_iter().collect())
    }

    /// Every group that may have dead letters.
    async fn groups_with_letters(&self) -> Outcome<Vec<String>> {
        let mut groups = self.groups().await?;
        // It reads requests instead of the log.
        groups.push(crate::replay::GROUP.to_owned());
        // Dead letters outlive their group: the settings name some that are not on the log any more.
        groups.extend(self.settings.callback.endpoints.iter().map(|one| format!("callback:{}", one.name)));
        groups.sort_unstable();
        groups.dedup();
        Ok(groups)
    }

    /// The groups that are meant: the one that is named, or all.
    async fn groups_meant(&self, group: Option<&str>) -> Outcome<Vec<String>> {
        let known = self.groups_with_letters().await?;
        let Some(group) = group else { return Ok(known) };
        let has_letters = self.redis.length(&self.redis.keys().dead(group)).await? > 0;
        if !has_letters && !known.iter().any(|name| name == group) {
            return Err(unknown_group(group, &known).into());
        }
        Ok(vec![group.to_owned()])
    }
}

/// The error for a group that isn't one of `known`.
pub(super) fn unknown_group(group: &str, known: &[String]) -> Error {
    let known = if known.is_empty() {
        "there are none yet: they are made when a worker starts".to_owned()
    } else {
        format!("there are {}", known.join(", "))
    };
    Error::invalid(format!("find a group {group:?}: {known}"))
}
