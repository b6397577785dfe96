//! Management HTTP.

use std::process::ExitCode;

use millstream::config::Process;

fn main() -> ExitCode {
    millstream::service::main(Process::Api)
}
