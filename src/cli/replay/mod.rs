//! `millstream replay`: a range of entries once more, to a group or as JSON lines.
//!
//! Copies go into the group's redeliver streams, which its workers read beside the log when that has
//! nothing new; so live delivery goes on undisturbed, and what is replayed is marked so.
//!
//! Delivery is at least once. A job that is interrupted and resumed copies nothing twice; two jobs
//! over the same range copy it twice.

mod copy;
mod export;
mod source;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde_json::json;

use self::copy::{Copying, unknown_job};
use self::source::Source;
use super::dead::unknown_group;
use super::ending::{Ending, Outcome};
use super::settings::Installation;
use super::when::{self, When};
use super::{output, settings};
use crate::model::{EntryId, PartitionId, Room};
use crate::service::SettingsArgs;
use crate::shutdown::Shutdown;
use crate::store::Store;
use crate::stream::ReplayJob;

/// Where `--to` writes lines instead of copying to a group.
const STDOUT: &str = "stdout";
/// Partitions that are copied side by side: each may hold a connection to Postgres.
const PARTITIONS_AT_ONCE: usize = 4;

const EXAMPLES: &str = "Examples:\n  \
    millstream replay --to callback:orders --from -1h\n  \
    millstream replay --to callback:orders --from -1h --execute --wait\n  \
    millstream replay --to archive --from 2026-01-31T12:00:00Z --until -10m --execute\n  \
    millstream replay --to stdout --from start --room lobby > lobby.jsonl\n  \
    millstream replay --resume 0198c0de --execute";

/// Delivers a range of entries to a group once more, or writes it as JSON lines.
///
/// Shows what it would do, and does it with --execute. Entries come from the log and, beyond it, from
/// the archive; live delivery goes on beside them, and what is replayed is marked so.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{}", when::FORMS))]
pub(super) struct ReplayArgs {
    /// The group, such as archive or callback:orders; or stdout.
    #[arg(long, value_name = "GROUP", required_unless_present = "resume")]
    to: Option<String>,
    /// The first entry.
    #[arg(long, value_name = "TIME", required_unless_present = "resume", allow_hyphen_values = true)]
    from: Option<When>,
    /// The last entry [default: the newest there is].
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    until: Option<When>,
    /// Only this room.
    #[arg(long)]
    room: Option<String>,
    /// Do it.
    #[arg(long)]
    execute: bool,
    /// Go on with a job that was interrupted.
    #[arg(long, value_name = "JOB", conflicts_with_all = ["to", "from", "until", "room"])]
    resume: Option<String>,
    /// Return only when the group has taken everything.
    #[arg(long)]
    wait: bool,
    /// Plan and result as JSON.
    #[arg(long)]
    json: bool,
}

/// What is to be done.
struct Replay {
    here: Installation,
    store: Store,
    job: ReplayJob,
    /// The name of a job that is resumed.
    resumed: Option<String>,
}

/// What a partition would give.
struct Planned {
    partition: PartitionId,
    archive: u64,
    log: u64,
}

/// Plans, exports or copies.
pub(super) async fn run(args: ReplayArgs, flags: &SettingsArgs) -> Outcome {
    let replay = Replay::prepare(&args, flags).await?;
    let shutdown = Shutdown::on_signals()?;
    if replay.job.group == STDOUT {
        let export = export::run(replay.sources(), replay.job.from.previous());
        let Some(written) = shutdown.or(Box::pin(export)).await else { return Err(Ending::Stopped) };
        output::note(format!("wrote {}", output::count(written?, "entry", "entries")));
        return Ok(());
    }
    let Some(plan) = shutdown.or(Box::pin(replay.plan())).await else { return Err(Ending::Stopped) };
    let plan = plan?;
    if !args.json {
        replay.show(&plan)?;
    }
    if args.execute {
        return Box::pin(replay.execute(&plan, &args, &shutdown)).await;
    }
    if args.json {
        return output::json(&replay.json(&plan, None));
    }
    output::line("nothing was done: add --execute to deliver them")
}

impl Replay {
    async fn prepare(args: &ReplayArgs, flags: &SettingsArgs) -> Outcome<Self> {
        let here = settings::open(flags).await?;
        let store = here.store()?;
        let job = match (&args.resume, &args.to, args.from) {
            (Some(name), ..) => here.redis.replay_job(name).await?.ok_or_else(|| unknown_job(name))?,
            (None, Some(to), Some(from)) => {
                let room = args.room.as_deref().map(Room::new).transpose()?;
                let until = match args.until {
                    Some(until) => until.last(),
                    None => newest(&here).await?,
                };
                ReplayJob { group: to.clone(), from: from.first(), until, room }
            }
            _ => return Err(unknown_job("").into()),
        };
        if job.group != STDOUT {
            let known = here.groups().await?;
            if !known.contains(&job.group) {
                return Err(unknown_group(&job.group, &known).into());
            }
        }
        Ok(Self { here, store, job, resumed: args.resume.clone() })
    }

    /// A source for each partition that is concerned.
    fn sources(&self) -> Vec<Source> {
        let only = self.job.room.as_ref().map(|room| self.here.partitions.of(room));
        let concerned = self.here.partitions.all().filter(|p| only.is_none_or(|only| only == *p));
        let source = |partition| Source {
            redis: self.here.redis.clone(),
            store: self.store.clone(),
            partitions: self.here.partitions,
            partition,
            room: self.job.room.clone(),
            until: self.job.until,
        };
        concerned.map(source).collect()
    }

    async fn plan(&self) -> Outcome<Vec<Planned>> {
        let mut plan = Vec::new();
        for source in self.sources() {
            let position = match &self.resumed {
                Some(name) => self.here.redis.replay_position(source.partition, name).await?,
                None => None,
            };
            let (archive, log) = source.count(position.unwrap_or_else(|| self.job.from.previous())).await?;
            plan.push(Planned { partition: source.partition, archive, log });
        }
        Ok(plan)
    }

    fn show(&self, plan: &[Planned]) -> Outcome {
        let what = self.job.room.as_ref().map_or_else(|| "all rooms".to_owned(), |room| format!("room {room}"));
        let time = output::time_of;
        let (from, until) = (self.job.from, self.job.until);
        let since = if from == EntryId::ZERO { "the start".to_owned() } else { time(from) };
        output::line(format!("replay to {}: {what}, from {since} until {}", self.job.group, time(until)))?;
        let mut table = output::table(&["partition", "from the archive", "from the log"]);
        for planned in plan.iter().filter(|planned| planned.archive + planned.log > 0) {
            table.add_row([planned.partition.to_string(), planned.archive.to_string(), planned.log.to_string()]);
        }
        let (archive, log) = totals(plan);
        table.add_row(["all".to_owned(), archive.to_string(), log.to_string()]);
        output::show(&table)
    }

    fn json(&self, plan: &[Planned], done: Option<(&str, u64)>) -> serde_json::Value {
        let (archive, log) = totals(plan);
        let of = |planned: &Planned| json!({ "partition": planned.partition, "archive": planned.archive, "log": planned.log });
        json!({
            "to": self.job.group,
            "from": self.job.from,
            "until": self.job.until,
            "room": self.job.room,
            "entries": archive + log,
            "partitions": plan.iter().map(of).collect::<Vec<_>>(),
            "executed": done.is_some(),
            "job": done.map(|(job, _)| job),
            "copied": done.map(|(_, copied)| copied),
        })
    }

    async fn execute(&self, plan: &[Planned], args: &ReplayArgs, shutdown: &Shutdown) -> Outcome {
        let name = match &self.resumed {
            Some(name) => name.clone(),
            None => uuid::Uuid::new_v4().simple().to_string()[..8].to_owned(),
        };
        self.here.redis.save_replay_job(&name, &self.job).await?;
        output::note(format!("job {name}"));
        let (archive, log) = totals(plan);
        let bar = output::progress(archive + log, "copying");
        let copying = |source| Copying { job: &name, group: &self.job.group, source, bar: &bar };
        let from = self.job.from;
        let copies =
            stream::iter(self.sources().into_iter().map(copying).map(|copying| async move { copying.run(from).await }));
        let copied =
            shutdown.or(copies.buffer_unordered(PARTITIONS_AT_ONCE).try_fold(0, async |sum, one| Ok(sum + one))).await;
        bar.finish_and_clear();
        let how_to_go_on = || output::note(format!("go on with: millstream replay --resume {name} --execute"));
        let copied = match copied {
            Some(Ok(copied)) => copied,
            Some(Err(error)) => {
                how_to_go_on();
                return Err(error.into());
            }
            None => {
                how_to_go_on();
                return Err(Ending::Stopped);
            }
        };
        self.here.redis.forget_replay_job(&name).await?;
        if args.wait {
            let taken = stream::iter(self.sources().into_iter().map(copying)).map(Ok);
            let taken = taken.try_for_each(async |copying: Copying<'_>| copying.taken().await);
            let Some(taken) = shutdown.or(Box::pin(taken)).await else { return Err(Ending::Stopped) };
            taken?;
        }
        if args.json {
            return output::json(&self.json(plan, Some((&name, copied))));
        }
        let entries = output::count(copied, "entry", "entries");
        output::line(match args.wait {
            true => format!("{} has taken {entries} again", self.job.group),
            false => format!("copied {entries}: the workers of {} deliver them beside what is live", self.job.group),
        })
    }
}

fn totals(plan: &[Planned]) -> (u64, u64) {
    plan.iter().fold((0, 0), |(archive, log), planned| (archive + planned.archive, log + planned.log))
}

/// The newest place of any partition: what comes later is live.
async fn newest(here: &Installation) -> Outcome<EntryId> {
    let mut newest = EntryId::ZERO;
    for p in here.partitions.all() {
        newest = newest.max(here.redis.last_generated_id(p).await?.unwrap_or_default());
    }
    Ok(newest)
}
