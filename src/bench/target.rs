//! Where the load goes, and as whom.

use std::time::Duration;

use crate::auth::{Grant, Mint, mint};
use crate::config::{AuthSettings, Settings};
use crate::error::{Error, Result};
use crate::model::{SenderType, UserId};

/// How long a load may last.
const TOKEN_TTL: Duration = Duration::from_secs(86_400);

/// Which edge, as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// The edge, several times to spread connections over several [default: edge.listen].
    #[arg(long, value_name = "URL")]
    pub url: Vec<String>,
    /// A token that all connections use, instead of one per user made with auth.hs256_secret.
    #[arg(long, env = "MILLSTREAM_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// What the names of rooms and users begin with: another one is another load.
    #[arg(long, default_value = "bench")]
    pub prefix: String,
}

/// Edges and the right to talk to them.
#[derive(Debug, Clone)]
pub struct Target {
    urls: Vec<String>,
    token: Option<String>,
    auth: AuthSettings,
    pub(super) prefix: String,
    /// Begins every cid, so that a load is no retry of an earlier one.
    pub(super) run: String,
}

impl Target {
    /// As the arguments say, and the settings where they don't.
    pub fn new(args: TargetArgs, settings: &Settings) -> Self {
        let mut urls = args.url;
        if urls.is_empty() {
            urls.push(format!("ws://{}", settings.edge.listen.replace("0.0.0.0", "127.0.0.1")));
        }
        let urls = urls.iter().map(|url| format!("{}/v1/connect", url.trim_end_matches('/'))).collect();
        Self {
            urls,
            token: args.token,
            auth: settings.auth.clone(),
            prefix: args.prefix,
            run: format!("{:08x}", rand::random::<u32>()),
        }
    }

    /// The edge of the connection with this number.
    pub(super) fn url(&self, number: usize) -> &str {
        &self.urls[number % self.urls.len()]
    }

    /// The token of a user, who may do everything in rooms of this load.
    pub(super) fn token(&self, user: &str) -> Result<String> {
        if let Some(token) = &self.token {
            return Ok(token.clone());
        }
        let grants = vec![Grant::new(&format!("{}*", self.prefix), "rw")];
        let user = UserId::new(user)?;
        mint(&self.auth, &Mint { user, sender_type: SenderType::User, grants, ttl: TOKEN_TTL })
            .map_err(|error| error.context("give --token, or the edge's secret"))
    }

    /// The name of a room.
    pub(super) fn room(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }

    /// # Errors
    /// A prefix that is no beginning of a room.
    pub(super) fn check(&self) -> Result<()> {
        crate::model::Room::new(&self.room(usize::MAX))
            .map(|_| ())
            .map_err(|error| Error::invalid("use --prefix").caused_by(error))
    }
}
