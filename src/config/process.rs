//! Which process the settings are for: some need what others don't.

use std::fmt;

use super::Settings;

/// A process of Millstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    /// The WebSocket edge.
    Edge,
    /// Management HTTP.
    Api,
    /// The archive worker.
    Archive,
    /// The replay worker.
    Replay,
    /// The callback worker.
    Callback,
    /// The command line, and all of the above in one process: it needs nothing in particular.
    Tool,
}

impl Process {
    /// Its name in `ready <name> <addr>` and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Api => "api",
            Self::Archive => "archive",
            Self::Replay => "replay",
            Self::Callback => "callback",
            Self::Tool => "millstream",
        }
    }

    /// Where its health and metrics listen unless `metrics.listen` says otherwise.
    pub fn metrics_default(self) -> &'static str {
        match self {
            Self::Edge => "127.0.0.1:7409",
            Self::Api => "127.0.0.1:7408",
            Self::Archive => "127.0.0.1:7410",
            Self::Replay => "127.0.0.1:7411",
            Self::Callback => "127.0.0.1:7412",
            Self::Tool => "127.0.0.1:0",
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Settings {
    /// Where health and metrics of `process` listen.
    pub fn metrics_listen(&self, process: Process) -> &str {
        if self.metrics.listen.is_empty() { process.metrics_default() } else { &self.metrics.listen }
    }
}
