//! How fast it is, as ratios against yardsticks in the same run: `scripts/bench`.
//!
//! Load, yardstick and what is measured are processes of their own, on servers of their own. Each row is measured
//! several times, yardstick and product in turn, and the median counts.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod archive;
mod bare;
mod callbacks;
mod catch_up;
mod child;
mod crowd;
mod document;
mod endpoint;
mod fan_out;
mod growth;
mod ingest;
mod latency;
mod load;
mod machine;
mod memory;
mod resp;
mod row;
mod storm;

use std::path::{Path, PathBuf};

use clap::Parser;

use self::row::Row;

#[derive(Parser)]
struct Args {
    /// Measures only these rows.
    #[arg(long)]
    row: Vec<String>,
    /// Times that each row is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Seconds of each measurement under load.
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Writes the table into this document too, between its marks.
    #[arg(long)]
    document: Option<PathBuf>,
    /// Is the bare server at this address instead, until it is killed.
    #[arg(long, hide = true)]
    bare_server: Option<String>,
    /// Is an HTTP endpoint at this address instead, until it is killed.
    #[arg(long, hide = true)]
    endpoint: Option<String>,
}

#[tokio::main]
async fn main() {
    let args = Args::parse();
    // As the programs that are measured, so that the yardsticks' servers are.
    millstream::memory::use_small_pages();
    if let Some(addr) = &args.bare_server {
        return bare::serve(addr).await;
    }
    if let Some(addr) = &args.endpoint {
        return endpoint::serve(addr).await;
    }
    let mut rows: Vec<Row> = Vec::new();
    for plan in row::ALL {
        let name = plan.name;
        if !args.row.is_empty() && !args.row.iter().any(|wanted| wanted == name) {
            continue;
        }
        let mut measured = Vec::new();
        for run in 1..=args.runs {
            eprintln!("{name}: run {run} of {}", args.runs);
            measured.push(plan.run(args.seconds).await);
        }
        rows.extend(row::medians(measured));
    }
    row::show(&rows);
    if let Some(document) = &args.document {
        write(document, &args, &rows);
    }
}

/// Writes the rows into the document, each with when and how it was measured.
fn write(path: &Path, args: &Args, rows: &[Row]) {
    let measured = format!("{}, {} × {} s", machine::moment(), args.runs, args.seconds);
    let lines: Vec<String> = rows.iter().map(|row| format!("{} {measured} |", row.line())).collect();
    let before = std::fs::read_to_string(path).unwrap();
    let after = document::with(&before, &machine::description(), &lines, args.row.is_empty()).unwrap();
    std::fs::write(path, after).unwrap();
    eprintln!("written: {}", path.display());
}
