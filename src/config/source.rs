//! Where a value came from.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Preset;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The code.
    Default,
    /// A line of the file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1; 0 if it is not known.
        line: usize,
    },
    /// A variable of the environment.
    Variable(String),
    /// A file that a variable names.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file.
        path: PathBuf,
    },
    /// A `--set` of the command line.
    Flag,
    /// `archive.preset`, which came from there.
    Preset(Preset, Box<Source>),
}

impl Source {
    pub(super) fn line(path: &Path, line: usize) -> Self {
        Self::File { path: path.to_owned(), line }
    }

    /// Whether naming it says something that `subject` doesn't.
    pub(super) fn tells_more_than(&self, subject: &str) -> bool {
        match self {
            Self::Default => false,
            Self::Variable(name) => name != subject,
            Self::File { path, line } => *line > 0 || path.display().to_string() != subject,
            Self::SecretFile { .. } | Self::Flag | Self::Preset(..) => true,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::SecretFile { variable, path } => write!(f, "{}, named by variable {variable}", path.display()),
            Self::Flag => f.write_str("--set"),
            Self::Preset(preset, source) => write!(f, "preset {preset}: {source}"),
        }
    }
}
