//! `millstream completions`: what a shell needs to complete our commands.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::ending::Outcome;
use super::{Cli, output};

/// Writes what a shell needs to complete the commands and flags.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream completions bash > /etc/bash_completion.d/millstream\n  \
    millstream completions zsh > ~/.zfunc/_millstream\n  \
    millstream completions fish > ~/.config/fish/completions/millstream.fish")]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Writes them.
pub(super) fn run(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "millstream", &mut script);
    output::line(script.trim_ascii_end())
}
