//! From the command line to an exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser as _;
use tracing::{error, info, warn};

use super::{Service, SettingsArgs};
use crate::config::{Loaded, Process, Settings};
use crate::error::{Error, Kind, Result};
use crate::fault;
use crate::memory;
use crate::shutdown::Shutdown;
use crate::telemetry::{self, names};

/// How long the runtime may take to end its last tasks, once all work is done.
const LAST_TASKS: Duration = Duration::from_millis(500);

#[derive(clap::Parser)]
#[command(version, about)]
struct Arguments {
    #[command(flatten)]
    settings: SettingsArgs,
}

/// Runs a process from its command line to its exit code: 0 after a stop that was asked for, 2 for
/// a mistake in the settings, 1 for everything else.
pub fn main(process: Process) -> ExitCode {
    let arguments = Arguments::parse();
    let loaded = match Settings::load(&arguments.settings.options(process)) {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return exit_code(&mistakes.into());
        }
    };
    match serve(process, loaded) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind() == Kind::Config {
                // For whoever started it, as mistakes in the settings are: what mends it may have lines.
                eprintln!("failed to {error}");
            } else {
                error!(process = %process, "failed to {error}");
            }
            exit_code(&error)
        }
    }
}

/// The exit code of a process that ends because of `error`.
pub fn exit_code(error: &Error) -> ExitCode {
    ExitCode::from(if error.kind() == Kind::Config { 2 } else { 1 })
}

/// What a process does once before anything else: logs, the provider of TLS, panics as log lines,
/// and what is risky in its settings.
///
/// # Errors
/// [`Kind::Config`] if `log.level` can't be read.
pub fn prepare(process: Process, loaded: &Loaded) -> Result<()> {
    telemetry::init(&loaded.settings.log)?;
    // A second call (all services in one process) finds the first one's.
    let _ = rustls::crypto::ring::default_provider().install_default();
    std::panic::set_hook(Box::new(log_panic));
    info!(process = %process, version = env!("CARGO_PKG_VERSION"), "starting the {process} process");
    warn_of_faults();
    for warning in &loaded.warnings {
        warn!(key = warning.subject, "{warning}");
    }
    Ok(())
}

/// A build that can be made to lose messages must not be taken for another.
fn warn_of_faults() {
    if fault::POSSIBLE {
        warn!("this build has the feature `faults`: it can be made to lose messages, and is for tests only");
    }
    if let Some(fault) = fault::chosen() {
        warn!(fault = fault.name(), "THE FAULT {} IS PUT IN: MESSAGES WILL BE LOST OR DOUBLED", fault.name());
    }
}

fn serve(process: Process, loaded: Loaded) -> Result<()> {
    memory::use_small_pages();
    prepare(process, &loaded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::internal("start the runtime").caused_by(e))?;
    let ended = runtime.block_on(async {
        let shutdown = Shutdown::on_signals()?;
        let metrics = Arc::new(telemetry::install_metrics()?);
        let service = Service { process, settings: Arc::new(loaded.settings), metrics, shutdown };
        service.run(|address| say(&format!("ready {process} {address}"))).await
    });
    runtime.shutdown_timeout(LAST_TASKS);
    ended
}

/// A line on standard output. Whoever closed it doesn't want to hear; that is no reason to fail.
fn say(line: &str) {
    let mut out = std::io::stdout();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// A panic is a defect; it must be found in the log whatever catches it afterwards.
fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    metrics::counter!(names::PANICS).increment(1);
    let what = panic.payload_as_str().unwrap_or("no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    error!(place, "a task panicked at {place}: {what}");
}
