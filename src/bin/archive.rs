//! The archive worker: writes the log to Postgres.

use std::process::ExitCode;

use millstream::config::Process;

fn main() -> ExitCode {
    millstream::service::main(Process::Archive)
}
