//! The options of `millstream dev`.

use std::path::PathBuf;

/// Runs all of Millstream in one process, on a Redis and a Postgres of its own.
///
/// The servers' programs are the system's; their data, the secret and the keys are kept in a folder,
/// and what was sent is there again at the next start. Everything stops with Ctrl-C.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:\n  \
    millstream dev\n  \
    millstream dev --edge-listen 0.0.0.0:7400 --data-dir mill-data\n  \
    millstream dev --redis-url redis://127.0.0.1:6379 --database-url postgres://me@127.0.0.1/mill\n  \
    millstream dev --callback-url http://127.0.0.1:8000/hook")]
pub struct DevArgs {
    /// Where the data, the secret and the keys are kept.
    #[arg(long, value_name = "DIR", default_value = ".millstream")]
    pub data_dir: PathBuf,
    /// Address of the WebSocket [default: 127.0.0.1:7400].
    #[arg(long, value_name = "ADDR")]
    pub edge_listen: Option<String>,
    /// Address of the management API [default: 127.0.0.1:7401].
    #[arg(long, value_name = "ADDR")]
    pub api_listen: Option<String>,
    /// A Redis that is there already, instead of an own one.
    #[arg(long, value_name = "URL")]
    pub redis_url: Option<String>,
    /// A Postgres database that is there already, instead of an own one.
    #[arg(long, value_name = "URL")]
    pub database_url: Option<String>,
    /// Post every message and event to this URL.
    #[arg(long, value_name = "URL")]
    pub callback_url: Option<String>,
}
