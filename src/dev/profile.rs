//! The settings of development: what isn't set is chosen for trying things out.

use tracing::warn;

use super::DevArgs;
use super::folder::Folder;
use crate::auth::{Grant, Mint, mint};
use crate::config::{EndpointKind, EndpointSettings, Loaded, Process, Secret, Settings, Source, Span};
use crate::edge::own_files;
use crate::error::Result;
use crate::model::{SenderType, UserId};
use crate::service::SettingsArgs;
use crate::sockets::{let_in, room};

/// How long the printed token is valid: longer than anybody tries things out.
const TOKEN_TTL: std::time::Duration = std::time::Duration::from_secs(30 * 86_400);
/// Files of the workers' connections to Redis, the listeners, and the servers that are started here.
const OTHERS_FILES: u64 = 64;
/// Variables that mean the servers of some other program as often as ours: they take effect only as options.
const NOT_OURS: &[&str] = &["REDIS_URL", "DATABASE_URL"];
/// The file that lets the command line find what runs here.
pub(super) const CONFIG_FILE: &str = "dev.toml";

/// Reads the settings, and chooses what isn't set.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) with everything that is wrong with them.
pub(super) fn settings(args: &DevArgs, flags: &SettingsArgs, folder: &Folder) -> Result<Profile> {
    let mut options = flags.options(Process::Tool);
    options.environment.retain(|(name, _)| !NOT_OURS.contains(&name.as_str()));
    options.set.extend(given(args));
    let mut loaded = Settings::load(&options)?;
    let mut settings = loaded.settings.clone();
    let unset = |key: &str| matches!(loaded.sources.get(key), None | Some(Source::Default));
    if unset("edge.listen") {
        settings.edge.listen = "127.0.0.1:7400".into();
    }
    if unset("metrics.listen") {
        settings.metrics.listen = format!("127.0.0.1:{}", folder.port("metrics")?);
    }
    if unset("edge.allowed_origins") {
        settings.edge.allowed_origins = vec!["*".into()];
    }
    if unset("archive.max_delay") {
        settings.archive.max_delay = Span::secs(1);
    }
    if unset("callback.allow_private") {
        settings.callback.allow_private = true;
    }
    if unset("limits.connections") {
        // As many as its open files allow: nobody who tries things out wants to hear of ulimit first.
        settings.limits.connections = 0;
    }
    if unset("log.level") {
        // The screen is for the addresses; what goes wrong still shows.
        settings.log.level = "warn".into();
    }
    if settings.auth.hs256_secret.is_empty() && settings.auth.algorithm == "HS256" {
        settings.auth.hs256_secret = Secret::new(folder.secret("hs256-secret")?);
    }
    if settings.api.key.is_empty() {
        settings.api.key = Secret::new(folder.secret("api-key")?);
    }
    if settings.callback.secret.is_empty() {
        settings.callback.secret = Secret::new(callback_secret(folder)?);
    }
    if let Some(url) = &args.callback_url {
        settings.callback.endpoints.push(endpoint(url, &settings.callback.secret));
    }
    let redis_url = (!unset("redis.url")).then(|| settings.redis.url.expose().to_owned());
    let database_url = (!unset("database.url")).then(|| settings.database.url.expose().to_owned());
    // What prepares the process reads it there.
    loaded.settings.log.clone_from(&settings.log);
    Ok(Profile { settings, redis_url, database_url, loaded })
}

/// Edge and API have the open files of one process between them, beside all that the others in it need.
pub(super) fn share_files(settings: &mut Settings, files: Option<u64>) {
    let attempts: usize = settings.callback.endpoints.iter().map(|endpoint| endpoint.concurrency).sum();
    let to_postgres = 3 * u64::from(settings.database.connections_max);
    let own = own_files(&settings.redis, None) + to_postgres + attempts as u64 + OTHERS_FILES;
    let room = room(files, own);
    let (api, edge) = (&mut settings.api.connections, &mut settings.limits.connections);
    // One of sixteen is plenty for trying the API out.
    *api = (*api).min((room / 16).max(8));
    let most = let_in(room.saturating_sub(*api));
    match *edge {
        0 if files.is_none() => {}
        0 => *edge = most.max(1),
        wanted if wanted > most => {
            warn!(
                "of limits.connections ({wanted}) only {most} fit into the open files of this process; raise ulimit -n"
            );
            *edge = most.max(1);
        }
        _ => {}
    }
}

/// The settings of this run.
pub(super) struct Profile {
    pub(super) settings: Settings,
    /// A Redis that is there already.
    pub(super) redis_url: Option<String>,
    /// A Postgres that is there already.
    pub(super) database_url: Option<String>,
    pub(super) loaded: Loaded,
}

/// What was given as options, as the settings' keys.
fn given(args: &DevArgs) -> Vec<String> {
    let options = [
        ("edge.listen", &args.edge_listen),
        ("api.listen", &args.api_listen),
        ("redis.url", &args.redis_url),
        ("database.url", &args.database_url),
    ];
    options.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?))).collect()
}

fn endpoint(url: &str, secret: &Secret) -> EndpointSettings {
    EndpointSettings {
        name: "dev".into(),
        url: url.to_owned(),
        secrets: vec![secret.clone()],
        kinds: vec![EndpointKind::Data],
        ..EndpointSettings::default()
    }
}

/// In the form of Standard Webhooks: `whsec_` and base64.
fn callback_secret(folder: &Folder) -> Result<String> {
    use base64::Engine as _;
    if let Some(secret) = folder.read("callback-secret") {
        return Ok(secret);
    }
    let bytes = rand::random::<[u8; 32]>();
    let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes));
    folder.write("callback-secret", &secret)?;
    Ok(secret)
}

/// A token of `user`, who may read and write everywhere; nothing if tokens are made elsewhere.
pub(super) fn token(settings: &Settings, user: &str) -> Option<String> {
    let grants = vec![Grant::new("*", "rw")];
    let token = Mint { user: UserId::new(user).ok()?, sender_type: SenderType::User, grants, ttl: TOKEN_TTL };
    mint(&settings.auth, &token).ok()
}

/// Writes down what the command line needs to find what runs here.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if it can't be written.
pub(super) fn write_config(folder: &Folder, settings: &Settings) -> Result<()> {
    let redis = &settings.redis;
    let text = |value: &str| toml::Value::from(value);
    let mut tables: Vec<(&str, Vec<(&str, toml::Value)>)> = vec![
        (
            "redis",
            vec![
                ("url", text(redis.url.expose())),
                ("prefix", text(&redis.prefix)),
                ("partitions", toml::Value::Integer(redis.partitions.into())),
            ],
        ),
        ("database", vec![("url", text(settings.database.url.expose()))]),
        ("edge", vec![("listen", text(&settings.edge.listen))]),
        ("api", vec![("listen", text(&settings.api.listen)), ("key", text(settings.api.key.expose()))]),
    ];
    if !settings.auth.hs256_secret.is_empty() {
        tables.push(("auth", vec![("hs256_secret", text(settings.auth.hs256_secret.expose()))]));
    }
    let table = |keys: Vec<(&str, toml::Value)>| {
        toml::Value::Table(keys.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
    };
    let file: toml::Table = tables.into_iter().map(|(name, keys)| (name.to_owned(), table(keys))).collect();
    folder.write(CONFIG_FILE, &format!("# Written by millstream dev at each start, for --config.\n{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LoadOptions;

    fn args(dir: &std::path::Path) -> DevArgs {
        DevArgs {
            data_dir: dir.to_owned(),
            edge_listen: Some("127.0.0.1:0".into()),
            api_listen: None,
            redis_url: None,
            database_url: Some("postgres://p/d".into()),
            callback_url: Some("http://127.0.0.1:1/hook".into()),
        }
    }

    #[test]
    fn what_is_not_set_is_chosen_and_the_command_line_can_read_it_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let profile = settings(&args(dir.path()), &SettingsArgs::default(), &folder).unwrap();
        assert_eq!((profile.redis_url, profile.database_url), (None, Some("postgres://p/d".into())));
        let mut chosen = profile.settings;
        assert_eq!(chosen.edge.allowed_origins, ["*"]);
        assert_eq!(chosen.callback.endpoints[0].name, "dev");
        assert_eq!(token(&chosen, "alice").unwrap().split('.').count(), 3);

        chosen.redis.url = Secret::new("redis://:a\"b@127.0.0.1:1");
        write_config(&folder, &chosen).unwrap();
        let mut options = LoadOptions::new(Process::Tool);
        options.file = Some(folder.path().join(CONFIG_FILE));
        let read = Settings::load(&options).unwrap().settings;
        assert_eq!(read.redis.url, chosen.redis.url);
        assert_eq!(read.api.key, chosen.api.key);
        assert_eq!(read.auth.hs256_secret, chosen.auth.hs256_secret);
    }

    /// Each counted the whole limit: with the edge's clients in, none was left for the API, nor for reaching Redis.
    #[test]
    fn edge_and_api_share_the_open_files() {
        for files in [512, 1_024, 8_192, 1_000_000] {
            for wanted in [0, 100_000] {
                let mut settings = Settings::default();
                settings.limits.connections = wanted;
                share_files(&mut settings, Some(files));
                let (edge, api) = (settings.limits.connections, settings.api.connections);
                let taken = (edge + crate::sockets::newcomers(edge) + api) as u64;
                assert!(taken + 64 + own_files(&settings.redis, None) <= files, "{edge} and {api} of {files}");
                assert!(edge >= 200 && api >= 8, "{edge} and {api} of {files}");
            }
        }
        let mut settings = Settings::default();
        settings.limits.connections = 100;
        share_files(&mut settings, Some(1_024));
        assert_eq!(settings.limits.connections, 100, "what fits stays");
        share_files(&mut settings, None);
        assert_eq!(settings.limits.connections, 100);
    }
}
