//! `millstream bench`: puts load on an edge and says what came of it.

use indicatif::ProgressBar;

use super::ending::{Ending, Outcome};
use super::{output, settings};
use crate::bench::{CatchUpArgs, ConnectArgs, FanOutArgs, IngestArgs, Report, StormArgs, Target, TargetArgs};
use crate::service::SettingsArgs;
use crate::shutdown::Shutdown;

/// Puts load on an edge through real connections: how much goes through, how late, and whether anything is lost.
///
/// It runs against any edge, also one of a live system: rooms and users of its own begin with --prefix, and what it
/// sends is archived like everything else. The limits per connection and address count for it too.
#[derive(Debug, clap::Subcommand)]
pub(super) enum BenchCommand {
    #[command(after_help = "Examples:\n  \
        millstream bench fan-out --rooms 100 --subscribers 10 --rate 1000\n  \
        millstream bench fan-out --rooms 1 --subscribers 1000 --in-flight 16 --json")]
    FanOut(Bench<FanOutArgs>),
    #[command(after_help = "Examples:\n  \
        millstream bench ingest --connections 64 --in-flight 64\n  \
        millstream bench ingest --rate 5000 --duration 1m --json")]
    Ingest(Bench<IngestArgs>),
    #[command(after_help = "Examples:\n  \
        millstream bench connect --connections 10000 --hold 30s\n  \
        millstream bench connect --url ws://10.0.0.1:7400 --url ws://10.0.0.2:7400")]
    Connect(Bench<ConnectArgs>),
    #[command(after_help = "Examples:\n  \
        millstream bench catch-up --clients 100 --messages 1000\n  \
        millstream bench catch-up --clients 100 --messages 1000 --keep")]
    CatchUp(Bench<CatchUpArgs>),
    #[command(after_help = "Examples:\n  \
        millstream bench storm --connections 5000 --rooms 10")]
    Storm(Bench<StormArgs>),
}

/// A load, where it goes, and how its result is written.
#[derive(Debug, clap::Args)]
pub(super) struct Bench<A: clap::Args> {
    #[command(flatten)]
    load: A,
    #[command(flatten)]
    target: TargetArgs,
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
}

/// Puts the load on.
pub(super) async fn run(command: BenchCommand, flags: &SettingsArgs) -> Outcome {
    let shutdown = Shutdown::on_signals()?;
    match shutdown.or(Box::pin(put_on(command, flags))).await {
        Some(ended) => ended,
        None => Err(Ending::Stopped),
    }
}

async fn put_on(command: BenchCommand, flags: &SettingsArgs) -> Outcome {
    let settings = settings::load(flags)?;
    match command {
        BenchCommand::FanOut(bench) => fan_out(bench.load, Target::new(bench.target, &settings), bench.json).await,
        BenchCommand::Ingest(bench) => {
            fan_out(bench.load.into(), Target::new(bench.target, &settings), bench.json).await
        }
        BenchCommand::Connect(bench) => {
            let load = bench.load;
            let bar = connections(load.connections.into());
            let held = || output::note(format!("{} connections stand", load.connections));
            let report = load.run(&Target::new(bench.target, &settings), || bar.inc(1), held).await?;
            show(&report, bench.json)
        }
        BenchCommand::CatchUp(bench) => {
            let (load, target) = (bench.load, Target::new(bench.target, &settings));
            let bar = connections(u64::from(load.clients) + if load.keep { 0 } else { u64::from(load.rooms) });
            let report = load.run(&target, || bar.inc(1)).await?;
            bar.finish_and_clear();
            show(&report, bench.json)
        }
        BenchCommand::Storm(bench) => {
            let load = bench.load;
            let bar = connections(load.connections.into());
            let ready = || output::note("ready: restart the edge now");
            let report = load.run(&Target::new(bench.target, &settings), || bar.inc(1), ready).await?;
            show(&report, bench.json)
        }
    }
}

async fn fan_out(load: FanOutArgs, target: Target, json: bool) -> Outcome {
    let bar = connections(u64::from(load.rooms) * (u64::from(load.subscribers) + u64::from(load.publishers)));
    let report = load.run(&target, || bar.inc(1)).await?;
    bar.finish_and_clear();
    show(&report, json)
}

fn connections(count: u64) -> ProgressBar {
    output::progress(count, "connections")
}

/// Writes a report; what was lost, repeated or disordered is no success.
fn show(report: &impl Report, json: bool) -> Outcome {
    if json {
        output::json(report)?;
    } else {
        let mut table = output::table(&["what", "figure"]);
        for (what, figure) in report.figures() {
            table.add_row([what.to_owned(), ((figure * 1_000.0).round() / 1_000.0).to_string()]);
        }
        output::show(&table)?;
        output::line("")?;
        let mut table = output::table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max"]);
        for (what, latency) in report.latencies().into_iter().filter(|(_, latency)| latency.count > 0) {
            let at = [latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.p999_ms, latency.max_ms];
            table.add_row([what.to_owned()].into_iter().chain(at.map(|ms| format!("{ms:.2}"))));
        }
        output::show(&table)?;
    }
    if report.is_right() { Ok(()) } else { Err(Ending::FindingsTold) }
}
