//! The edge: WebSocket in front of the log.

use std::process::ExitCode;

use millstream::config::Process;

fn main() -> ExitCode {
    millstream::service::main(Process::Edge)
}
