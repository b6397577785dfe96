//! The command line: see [`millstream::cli`].

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    millstream::cli::run().await
}
