//! What a person reads first: where everything is, and what to try.

use std::fmt::Write as _;
use std::path::Path;

use super::folder::Folder;
use super::profile::{self, CONFIG_FILE};
use super::servers::Servers;
use crate::config::Settings;

/// Who the printed token is for.
const USER: &str = "alice";

/// The first screen. The settings hold the addresses that are served.
pub(super) fn text(folder: &Folder, settings: &Settings, servers: &Servers) -> String {
    let (edge, api) = (&settings.edge.listen, &settings.api.listen);
    let (program, folder) = (program(), shown(folder.path()));
    let config = format!("--config {folder}/{CONFIG_FILE}");
    let mut out = String::from("\nMillstream is running.\n\n");
    let mut line = |text: String| writeln!(out, "{text}").expect("a string takes everything");
    line(format!("  WebSocket   ws://{edge}/v1/connect"));
    line(format!("  HTTP API    http://{api}   (key: {folder}/api-key)"));
    line(format!("  Metrics     http://{}/metrics", settings.metrics.listen));
    let whose = |own| if own { "its own" } else { "the one that was given" };
    line(format!("  Redis       {}, redis-cli -u \"$(cat {folder}/redis.url)\"", whose(servers.own_redis())));
    line(format!("  Postgres    {}, psql \"$(cat {folder}/postgres.url)\"", whose(servers.own_postgres())));
    for endpoint in &settings.callback.endpoints {
        line(format!("  Callbacks   {}, signed with the secret in {folder}/callback-secret", endpoint.url));
    }
    line(format!("  Data        {folder}"));
    if let Some(token) = profile::token(settings, USER) {
        line(format!("\nA token of the user {USER}, who may read and write every room, for 30 days:\n\n  {token}"));
    }
    line("\nTo try in other terminals:\n".into());
    line(format!("  {program} tail --room lobby {config}"));
    line(format!("  {program} publish --room lobby --user {USER} '{{\"text\": \"hello\"}}' {config}"));
    line(format!("  psql \"$(cat {folder}/postgres.url)\" -c 'SELECT room, seq, user_id, body FROM messages'"));
    line("\nCtrl-C stops everything; what was sent is there again at the next start.\n".into());
    out
}

/// How we were called: as a path from here if we are below.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "millstream".into(), |path| shown(&path))
}

/// A path as somebody here would type it.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().and_then(|here| here.canonicalize());
    let below = here.ok().and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned));
    below.as_deref().unwrap_or(path).display().to_string()
}
