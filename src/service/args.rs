//! What every command line of ours understands.

use std::path::PathBuf;

use crate::config::{LoadOptions, Process};

/// Where settings come from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SettingsArgs {
    /// File of settings (TOML); see config/millstream.toml for every key.
    #[arg(long, value_name = "FILE", env = "MILLSTREAM_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// One setting, such as --set archive.max_rows=100; wins over file and environment.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// What to load for `process`, with the environment.
    pub fn options(&self, process: Process) -> LoadOptions {
        let options = LoadOptions { file: self.config.clone(), set: self.set.clone(), ..LoadOptions::new(process) };
        options.with_environment()
    }
}
