//! `millstream verify`: does the archive hold what the log holds, and an endpoint's account too?
//!
//! Reads only: no cursor moves, no group notices, nothing is written anywhere. It walks partition by
//! partition along the ids, a page of the log and a page of the archive at a time.
//!
//! # Design
//! It is right while everything goes on, because of the order in which it looks: checkpoints first,
//! then the account, then the newest ids, up to which it walks; of each stretch first the log and
//! then the archive. So what a checkpoint covers was stored before it was looked for, and what was
//! trimmed from the log in between is in the archive by then.

mod account;
mod report;
mod walk;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use self::account::Account;
use self::report::Report;
use self::walk::Walk;
use super::ending::{Ending, Outcome};
use super::settings::{self, Installation};
use super::when::{self, When};
use super::{dead::unknown_group, output};
use crate::auth::matches;
use crate::error::Error;
use crate::model::{EntryId, PartitionId, Room};
use crate::service::SettingsArgs;
use crate::shutdown::Shutdown;
use crate::verify::{Content, Seen};

/// The group that writes the archive.
const ARCHIVE: &str = "archive";
/// How the groups of endpoints are called.
const CALLBACK: &str = "callback:";
/// Dead letters of one read.
const LETTERS: u64 = 500;

const EXAMPLES: &str = "Examples:\n  \
    millstream verify\n  \
    millstream verify --room 'team:*' --from -1d --rate 2000\n  \
    millstream verify --account received.jsonl --endpoint orders --json | jq .differences";

/// Compares the log with the archive and, with --account, with what an endpoint got.
///
/// Reads only, and may run beside everything. Exit code 0: they agree; 1: they differ, and the table (or
/// the JSON) says where; 2: a mistake in arguments; 3: it could not look.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", when::FORMS))]
pub(super) struct VerifyArgs {
    /// Only rooms of this name; `*` stands for anything. May be repeated.
    #[arg(long, value_name = "PATTERN")]
    room: Vec<String>,
    /// The first entry.
    #[arg(long, value_name = "TIME", default_value = "start", allow_hyphen_values = true)]
    from: When,
    /// The last entry [default: the newest there is].
    #[arg(long, visible_alias = "until", value_name = "TIME", allow_hyphen_values = true)]
    to: Option<When>,
    /// What an endpoint accepted: lines of JSON, as scripts/receiver.py --out writes them.
    #[arg(long, value_name = "FILE")]
    account: Option<PathBuf>,
    /// Whose account it is [default: the only endpoint there is].
    #[arg(long, value_name = "NAME", requires = "account")]
    endpoint: Option<String>,
    /// What that endpoint wants.
    #[arg(long, value_name = "KIND", default_value = "everything", requires = "account")]
    wants: Wanted,
    /// Entries to read a second at most, of log and archive together.
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// The result as JSON.
    #[arg(long)]
    json: bool,
}

/// What an endpoint wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Wanted {
    /// Only messages.
    Messages,
    /// Only events.
    Events,
    /// Both.
    Everything,
}

/// Compares, and says what differs.
pub(super) async fn run(args: VerifyArgs, flags: &SettingsArgs) -> Outcome {
    let blind = |ending| Ending::Unseen(Box::new(ending));
    let here = settings::open(flags).await.map_err(blind)?;
    let shutdown = Shutdown::on_signals()?;
    let looked = shutdown.or(Box::pin(look(&args, &here))).await.unwrap_or(Err(Ending::Stopped));
    let report = looked.map_err(blind)?;
    if args.json {
        output::json(&report.json())?
    } else {
        report.show()?
    }
    if report.agrees() { Ok(()) } else { Err(Ending::FindingsTold) }
}

async fn look(args: &VerifyArgs, here: &Installation) -> Outcome<Report> {
    let store = here.store()?;
    let group = group(args, here).await?;
    let mut checkpoints = Vec::new();
    for p in here.partitions.all() {
        let settled = here.redis.checkpoints(p).await?;
        let settled = |group: &str| settled.iter().find_map(|(name, id)| (name == group).then_some(*id));
        let written = store.archived(p).await?;
        // What Postgres refuses is parked after the commit, and settled after that.
        let archived = settled(ARCHIVE).map_or(written, |settled| settled.min(written));
        let called = group.as_deref().and_then(settled).unwrap_or_default();
        checkpoints.push(Checkpoints { archived, called });
    }
    let mut report = Report::default();
    let mut account = match &args.account {
        Some(path) => Some(Account::read(path, here.partitions, &mut report)?),
        None => None,
    };
    let parked = Parked {
        archive: letters(here, ARCHIVE).await?,
        endpoint: match &group {
            Some(group) => letters(here, group).await?,
            None => HashSet::new(),
        },
    };
    let bar = output::progress(u64::from(here.partitions.count()), "partitions");
    let mut pace = Pace { rate: args.rate, begin: tokio::time::Instant::now(), read: 0 };
    for (p, checkpoints) in here.partitions.all().zip(checkpoints) {
        let newest =
            here.redis.newest_id(&here.redis.keys().log(p)).await?.unwrap_or_default().max(checkpoints.archived);
        let walk = Walk {
            here,
            store: &store,
            partition: p,
            checkpoints,
            parked: &parked,
            after: args.from.first().previous(),
            until: args.to.map_or(newest, |to| to.last().min(newest)),
            args,
        };
        let entries = account.as_mut().map(|account| account.take(p));
        Box::pin(walk.run(entries, &mut pace, &mut report)).await?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(report)
}

/// Up to where a partition is settled: before anything else was looked at.
#[derive(Debug, Clone, Copy)]
struct Checkpoints {
    archived: EntryId,
    called: EntryId,
}

/// What was given up.
struct Parked {
    archive: HashSet<(PartitionId, EntryId)>,
    endpoint: HashSet<(PartitionId, EntryId)>,
}

/// The endpoint's group, if there is an account to compare.
async fn group(args: &VerifyArgs, here: &Installation) -> Outcome<Option<String>> {
    if args.account.is_none() {
        return Ok(None);
    }
    let mut known = here.groups().await?;
    known.retain(|name| name.starts_with(CALLBACK));
    match &args.endpoint {
        Some(name) => {
            let group = format!("{CALLBACK}{name}");
            if known.contains(&group) { Ok(Some(group)) } else { Err(unknown_group(&group, &known).into()) }
        }
        None if known.len() == 1 => Ok(known.pop()),
        None => Err(Error::invalid(format!("choose an endpoint: give --endpoint; there are {known:?}")).into()),
    }
}

/// All dead letters of a group: there are `group.dead_entries` at most.
async fn letters(here: &Installation, group: &str) -> Outcome<HashSet<(PartitionId, EntryId)>> {
    let (mut found, mut from) = (HashSet::new(), EntryId::ZERO);
    loop {
        let page = here.redis.dead_letters(group, from, EntryId::MAX, LETTERS).await?;
        let Some((last, _)) = page.last() else { return Ok(found) };
        from = last.next();
        found.extend(page.iter().map(|(_, letter)| (letter.partition, letter.original)));
    }
}

impl VerifyArgs {
    fn concerns(&self, room: &Room) -> bool {
        self.room.is_empty() || self.room.iter().any(|pattern| matches(pattern, room))
    }

    /// Whether the endpoint wants it. What is of the system is wanted only by who asks for it.
    fn is_wanted(&self, seen: &Seen) -> bool {
        let kind = match (&seen.content, self.wants) {
            (_, Wanted::Everything) => true,
            (Content::Message { .. }, wants) => wants == Wanted::Messages,
            (Content::Event(_), wants) => wants == Wanted::Events,
        };
        kind && (!seen.room.is_system() || self.room.iter().any(|pattern| pattern.starts_with('@')))
    }
}

/// No more entries a second than allowed.
struct Pace {
    rate: u32,
    begin: tokio::time::Instant,
    read: u64,
}

impl Pace {
    async fn take(&mut self, entries: usize) {
        self.read += entries as u64;
        let due = Duration::from_millis(self.read.saturating_mul(1_000) / u64::from(self.rate));
        tokio::time::sleep_until(self.begin + due).await;
    }
}
