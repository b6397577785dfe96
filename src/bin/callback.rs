//! The callback worker: posts to HTTP endpoints.

use std::process::ExitCode;

use millstream::config::Process;

fn main() -> ExitCode {
    millstream::service::main(Process::Callback)
}
