//! Addresses, URLs, names, keys: where things are and who may come in.

use super::Checker;
use crate::config::{AuthSettings, Durability, Process, Settings};

/// RFC 7518, section 3.2: a key of HS256 has at least the size of its hash.
const HS256_BYTES_MIN: usize = 32;
/// Below this, a key can be found by trying.
const API_KEY_BYTES_MIN: usize = 16;
/// A prefix comes first in every key of a busy Redis.
const PREFIX_BYTES_MAX: usize = 64;
const EDGE_ID_BYTES_MAX: usize = 64;

const REDIS_SCHEMES: &[&str] = &[
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
];
const POSTGRES_SCHEMES: &[&str] = &["postgres", "postgresql"];

pub(super) fn check(settings: &Settings, checker: &mut Checker<'_>) {
    url("redis.url", settings.redis.url.expose(), REDIS_SCHEMES, checker);
    url("database.url", settings.database.url.expose(), POSTGRES_SCHEMES, checker);
    prefix(&settings.redis.prefix, checker);
    listeners(settings, checker);
    edge_id(&settings.edge.id, checker);
    for origin in &settings.edge.allowed_origins {
        allowed_origin(origin, checker);
    }
    auth(&settings.auth, checker);
    api_key(settings, checker);
    log_level(&settings.log.level, checker);
    if settings.redis.durability == Durability::Memory {
        checker.warn("redis.durability", "memory promises nothing: a crash of Redis loses what it has not written");
    }
}

/// The URL is never repeated: it may hold a password.
fn url(key: &str, url: &str, schemes: &[&str], checker: &mut Checker<'_>) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return checker.mistake(key, format!("{}://… expected", schemes.join("://…, ")));
    };
    if !schemes.contains(&scheme) {
        checker.mistake(key, format!("{scheme}:// given, {} is possible", schemes.join(", ")));
    } else if rest.is_empty() {
        checker.mistake(key, "there is no host in it");
    }
}

fn prefix(prefix: &str, checker: &mut Checker<'_>) {
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"{}*?[]\\^".contains(&byte);
    if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(fits) {
        let what = format!(
            "{prefix:?} given, 1 to {PREFIX_BYTES_MAX} visible ASCII characters without {{ }} * ? [ ] \\ ^ are possible"
        );
        checker.mistake("redis.prefix", what);
    }
}

fn listeners(settings: &Settings, checker: &mut Checker<'_>) {
    let metrics = &settings.metrics.listen;
    for (key, listen) in [("edge.listen", &settings.edge.listen), ("api.listen", &settings.api.listen)] {
        address(key, listen, checker);
    }
    if metrics.is_empty() {
        return;
    }
    address("metrics.listen", metrics, checker);
    let main = match checker.process {
        Process::Edge => ("edge.listen", &settings.edge.listen),
        Process::Api => ("api.listen", &settings.api.listen),
        _ => return,
    };
    if main.1 == metrics && !metrics.ends_with(":0") {
        checker.mistake("metrics.listen", format!("{metrics} is {} already", main.0));
    }
}

fn address(key: &str, listen: &str, checker: &mut Checker<'_>) {
    let port = listen.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    if port.and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
        checker.mistake(key, format!("{listen:?} given, host:port expected, such as 0.0.0.0:7400"));
    }
}

fn edge_id(id: &str, checker: &mut Checker<'_>) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if id.len() > EDGE_ID_BYTES_MAX || !id.bytes().all(fits) {
        checker
            .mistake("edge.id", format!("{id:?} given, up to {EDGE_ID_BYTES_MAX} of A-Z a-z 0-9 _ . - are possible"));
    }
}

fn allowed_origin(origin: &str, checker: &mut Checker<'_>) {
    if origin == "*" {
        return checker.warn("edge.allowed_origins", "* lets every web page connect with its visitors' tokens");
    }
    let host = origin.split_once("://").map(|(_, host)| host);
    if host.is_none_or(|host| host.is_empty() || host.contains('/')) {
        let what = format!("{origin:?} given, an origin such as https://example.com (no path) or * expected");
        checker.mistake("edge.allowed_origins", what);
    }
}

fn auth(auth: &AuthSettings, checker: &mut Checker<'_>) {
    let required = checker.process == Process::Edge;
    let files = [("auth.public_key_file", &auth.public_key_file), ("auth.key_set_file", &auth.key_set_file)];
    for (key, file) in &files {
        if let Some(file) = file
            && !file.is_file()
        {
            checker.mistake(key, format!("there is no file {}", file.display()));
        }
    }
    let has_file = files.iter().any(|(_, file)| file.is_some());
    match auth.algorithm.as_str() {
        "HS256" => hs256(auth, has_file, checker),
        "RS256" | "ES256" | "EdDSA" => {
            if required && !has_file {
                let what = format!("the edge needs it (or auth.key_set_file) to check {} tokens", auth.algorithm);
                checker.mistake("auth.public_key_file", what);
            }
            if !auth.hs256_secret.is_empty() {
                checker.warn("auth.hs256_secret", format!("has no effect: auth.algorithm is {}", auth.algorithm));
            }
        }
        other => checker.mistake("auth.algorithm", format!("{other:?} given, HS256, RS256, ES256 or EdDSA expected")),
    }
    if auth.public_key_file.is_some() && auth.key_set_file.is_some() {
        checker.mistake("auth.key_set_file", "auth.public_key_file is set as well: which one counts?");
    }
}

fn hs256(auth: &AuthSettings, has_file: bool, checker: &mut Checker<'_>) {
    let bytes = auth.hs256_secret.expose().len();
    if bytes == 0 {
        if checker.process == Process::Edge && !has_file {
            checker.mistake("auth.hs256_secret", "the edge needs it to check tokens (32 bytes or more)");
        }
    } else if bytes < HS256_BYTES_MIN {
        checker.mistake("auth.hs256_secret", format!("{bytes} bytes given, {HS256_BYTES_MIN} or more expected"));
    }
    if auth.public_key_file.is_some() {
        checker.warn("auth.public_key_file", "has no effect: auth.algorithm is HS256");
    }
}

fn api_key(settings: &Settings, checker: &mut Checker<'_>) {
    let key = settings.api.key.expose();
    if key.is_empty() {
        if checker.process == Process::Api {
            checker.warn("api.key", "is not set: every request is refused");
        }
    } else if key.len() < API_KEY_BYTES_MIN {
        checker.warn("api.key", format!("is shorter than {API_KEY_BYTES_MIN} bytes and can be found by trying"));
    }
}

fn log_level(level: &str, checker: &mut Checker<'_>) {
    let filter = tracing_subscriber::EnvFilter::builder().parse(level);
    // A word alone that is no level would be taken for the name of a module.
    let word = !level.contains(['=', ',']);
    if filter.is_err() || word && level.parse::<tracing::level_filters::LevelFilter>().is_err() {
        let what = format!("{level:?} given, error, warn, info, debug, trace or a filter expected");
        checker.mistake("log.level", what);
    }
}
