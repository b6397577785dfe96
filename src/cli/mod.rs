//! `millstream`: what a person types.
//!
//! One file per command. Owns arguments, tables, plans and exit codes; what a command does is done by
//! the module whose business it is. Results go to standard output (a table, or JSON with `--json`),
//! notes and progress to standard error; the exit code is 0, 1 (failed; of `verify`: differs) or 2 (arguments or
//! settings); 3 is a `verify` that could not look.
//!
//! **Invariant:** whatever destroys or repeats anything shows its plan first, and does nothing without
//! `--execute`.

mod bench;
mod completions;
mod config;
mod connect;
mod dead;
mod doctor;
mod ending;
mod endpoints;
mod flush;
mod groups;
mod init;
mod item;
mod output;
mod publish;
mod replay;
mod settings;
mod tail;
mod token;
mod trim;
mod verify;
mod when;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::ending::Outcome;
use crate::dev;
use crate::memory;
use crate::service::SettingsArgs;

/// Live messages that do not get lost.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(subcommand)]
    command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::DevArgs),
    Init(init::InitArgs),
    Token(token::TokenArgs),
    #[command(subcommand)]
    Config(config::ConfigCommand),
    Connect(connect::ConnectArgs),
    Tail(tail::TailArgs),
    Publish(publish::PublishArgs),
    Doctor(doctor::DoctorArgs),
    Groups(groups::GroupsArgs),
    #[command(subcommand)]
    Endpoints(endpoints::EndpointsCommand),
    Flush(flush::FlushArgs),
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    Trim(trim::TrimArgs),
    Replay(replay::ReplayArgs),
    Verify(verify::VerifyArgs),
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    Completions(completions::CompletionsArgs),
}

/// Reads the arguments of this process, does what they say, and gives its exit code.
pub async fn run() -> ExitCode {
    memory::use_small_pages();
    let cli = Cli::parse();
    match cli.command.run(&cli.settings).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(ending) => ending.report(),
    }
}

impl Command {
    async fn run(self, flags: &SettingsArgs) -> Outcome {
        match self {
            Self::Dev(args) => Ok(Box::pin(dev::run(&args, flags)).await?),
            Self::Init(args) => Box::pin(init::run(args, flags)).await,
            Self::Token(args) => token::run(args, flags),
            Self::Config(command) => config::run(command, flags),
            Self::Connect(args) => connect::run(args, flags).await,
            Self::Tail(args) => Box::pin(tail::run(args, flags)).await,
            Self::Publish(args) => Box::pin(publish::run(args, flags)).await,
            Self::Doctor(args) => Box::pin(doctor::run(args, flags)).await,
            Self::Endpoints(command) => Box::pin(endpoints::run(command, flags)).await,
            Self::Groups(args) => Box::pin(groups::run(args, flags)).await,
            Self::Flush(args) => Box::pin(flush::run(args, flags)).await,
            Self::Dead(command) => Box::pin(dead::run(command, flags)).await,
            Self::Trim(args) => Box::pin(trim::run(args, flags)).await,
            Self::Replay(args) => Box::pin(replay::run(args, flags)).await,
            Self::Verify(args) => Box::pin(verify::run(args, flags)).await,
            Self::Bench(command) => Box::pin(bench::run(command, flags)).await,
            Self::Completions(args) => completions::run(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    walk(sub, &path);
                    continue;
                }
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains(&path), "{path}: {help}");
            }
        }
        walk(&Cli::command(), "millstream");
    }
}
