//! The replay worker: serves whoever missed something.

use std::process::ExitCode;

use millstream::config::Process;

fn main() -> ExitCode {
    millstream::service::main(Process::Replay)
}
