//! What the layers promise together.

use std::path::{Path, PathBuf};

use super::mistake::Findings;
use super::*;

const COMMENTED: &str = include_str!("../../config/millstream.toml");
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// A file in a folder that goes away with the first value.
fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("settings.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Result<Loaded, Mistakes> {
    let (_folder, path) = file(text);
    let set = set.iter().map(|flag| (*flag).to_owned()).collect();
    let options = LoadOptions { file: Some(path), set, environment: variables(environment), process: Process::Tool };
    Settings::load(&options)
}

fn mistakes(text: &str, environment: &[(&str, &str)], set: &[&str]) -> Vec<Mistake> {
    load(text, environment, set).unwrap_err().0
}

/// The file with every line that is commented out only by a `#` directly before a name or a `[[`.
fn uncommented() -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => rest.to_owned(),
        _ => line.to_owned(),
    };
    COMMENTED.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_commented_file_changes_nothing() {
    let loaded = load(COMMENTED, &[], &[]).unwrap();
    assert_eq!(loaded.settings, Settings::default());
    assert_eq!(loaded.warnings, []);
}

#[test]
fn the_commented_file_has_every_key_with_its_default() {
    let mut findings = Findings::default();
    let given = file::parse(Path::new("millstream.toml"), &uncommented(), &mut findings);
    assert_eq!(findings.mistakes, []);
    let mut missing: Vec<_> = key::all().iter().map(|key| key.path.as_str()).collect();
    for given in &given {
        let key = key::find(&given.path).unwrap_or_else(|| panic!("{} is no key", given.path));
        assert_eq!(key.objection(&given.value), None, "{}", given.path);
        missing.retain(|path| *path != key.path);
        // An example of an endpoint has no defaults for its name, its place and its secrets.
        let example = ["callback.endpoints.*.name", "callback.endpoints.*.url", "callback.endpoints.*.secrets"];
        if let Some(default) = &key.default
            && !example.contains(&key.path.as_str())
        {
            let span = |value: &toml::Value| value.clone().try_into::<Span>().ok();
            let same = *default == given.value || span(default).is_some() && span(default) == span(&given.value);
            assert!(same, "{}: {} in the file, {default} in the code", given.path, given.value);
        }
    }
    assert_eq!(missing, Vec::<&str>::new(), "keys that the file doesn't have");
}

#[test]
fn each_layer_wins_over_the_one_before_and_sources_are_told() {
    let text = "[archive]\nmax_rows = 1\nmax_bytes = 5000\nbulk_rows = 9\n";
    let environment = [("MILLSTREAM__ARCHIVE__MAX_ROWS", "2"), ("MILLSTREAM__ARCHIVE__MAX_BYTES", "6_000")];
    let loaded = load(text, &environment, &["archive.max_rows=3"]).unwrap();
    let archive = &loaded.settings.archive;
    assert_eq!((archive.max_rows, archive.max_bytes, archive.bulk_rows, archive.writers), (3, 6000, 9, 2));
    assert_eq!(loaded.sources["archive.max_rows"], Source::Flag);
    assert_eq!(loaded.sources["archive.max_bytes"], Source::Variable("MILLSTREAM__ARCHIVE__MAX_BYTES".into()));
    assert!(loaded.sources["archive.bulk_rows"].to_string().ends_with("settings.toml, line 4"));
    assert_eq!(loaded.sources["archive.writers"], Source::Default);
}

#[test]
fn a_preset_sets_sizes_and_what_is_set_beside_or_above_it_wins() {
    let sizes = |text: &str, environment: &[(&str, &str)]| {
        let archive = load(text, environment, &[]).unwrap().settings.archive;
        (archive.max_rows, *archive.max_delay)
    };
    let secs = std::time::Duration::from_secs;
    let low = "[archive]\npreset = \"low_latency\"\n";
    assert_eq!(sizes(low, &[]), (10, secs(15)));
    assert_eq!(sizes(&format!("{low}max_rows = 70"), &[]), (70, secs(15)), "beside");
    assert_eq!(sizes(low, &[("WS_BATCH_SIZE", "80")]), (80, secs(15)), "above, by its old name");
    assert_eq!(sizes("[archive]\nmax_rows = 70", &[("MILLSTREAM__ARCHIVE__PRESET", "bulk")]), (5_000, secs(1)));
    let both = [("WS_FLUSH_INTERVAL", "7"), ("MILLSTREAM__ARCHIVE__PRESET", "bulk")];
    assert_eq!(sizes("", &both), (5_000, secs(7)), "beside, by its old name");
}

#[test]
fn old_names_are_understood_and_lose_against_new_ones() {
    let environment = [
        ("REDIS_URL", "redis://old"),
        ("MILLSTREAM__REDIS__URL", "redis://new"),
        ("DATABASE_URL", "postgres://u:p@h/d"),
        ("WS_BATCH_SIZE", "70"),
        ("WS_FLUSH_INTERVAL", "90"),
        ("CALLBACK_MAX_RETRIES", "5"),
        ("CALLBACK_RETRY_DELAY_SECONDS", "2"),
        ("CALLBACK_TIMEOUT_SECONDS", ""),
    ];
    let settings = load("", &environment, &[]).unwrap().settings;
    assert_eq!(settings.redis.url.expose(), "redis://new");
    assert_eq!(settings.database.url.expose(), "postgres://u:p@h/d");
    assert_eq!((settings.archive.max_rows, settings.archive.max_delay), (70, Span::secs(90)));
    assert_eq!((settings.callback.max_retries, settings.callback.retry_delay), (5, Span::secs(2)));
    assert_eq!(settings.callback.timeout, Span::secs(30), "empty is not set");
}

#[test]
fn old_callback_urls_make_signed_endpoints_beside_those_of_the_file() {
    let text = "[[callback.endpoints]]\nname = \"orders\"\nurl = \"https://a/\"\n";
    let environment = [
        ("DATA_CALLBACK_URL", "http://127.0.0.1:9/data"),
        ("ROOM_EVENT_CALLBACK_URL", "http://127.0.0.1:9/events"),
        ("MILLSTREAM__CALLBACK__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("MILLSTREAM__CALLBACK__ENDPOINTS__0__CONCURRENCY", "3"),
    ];
    let loaded = load(text, &environment, &[]).unwrap();
    let [orders, data, events] = loaded.settings.callback.endpoints.as_slice() else { panic!("three") };
    assert_eq!((orders.name.as_str(), orders.concurrency, orders.secrets.len()), ("orders", 3, 0));
    assert_eq!((data.name.as_str(), data.kinds.as_slice()), ("data", [EndpointKind::Data].as_slice()));
    assert_eq!((events.name.as_str(), events.kinds.as_slice()), ("room-events", [EndpointKind::RoomEvents].as_slice()));
    assert_eq!(events.url, "http://127.0.0.1:9/events");
    assert_eq!(data.secrets, [Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]);
    assert!(loaded.warnings.iter().any(|w| w.to_string().contains("callbacks to orders are not signed")));

    let named =
        load("[[callback.endpoints]]\nname = \"data\"\nurl = \"https://a/\"\n", &environment[..1], &[]).unwrap();
    assert_eq!(named.settings.callback.endpoints.len(), 1);
    assert!(named.warnings.iter().any(|w| w.subject == "DATA_CALLBACK_URL"));
}

#[test]
fn what_comes_later_is_said_and_not_swallowed() {
    let environment = [("CHAT_HISTORY_CALLBACK_URL", "http://h/"), ("PERIODIC_SYNC_CALLBACK_URL", "http://h/")];
    let warnings = load("", &environment, &[]).unwrap().warnings;
    assert!(
        warnings[0]
            .to_string()
            .starts_with("CHAT_HISTORY_CALLBACK_URL: is understood, but callbacks of kind chat_history come")
    );
    assert_eq!(warnings.len(), 2);
}

#[test]
fn all_mistakes_are_told_in_one_run_with_the_nearest_key() {
    let text = "[edge]\nlisten = 7400\nlisten_on = \"x\"\n\n[archve]\nmax_rows = 3\n";
    let environment = [
        ("MILLSTREAM__REDIS__PARTITION", "4"),
        ("MILLSTREAM__ARCHIVE__MAX_ROWS", "many"),
        ("MILLSTREAM__AUTH__HS256_SECRET", "short"),
    ];
    let found = mistakes(text, &environment, &["redis.prefix=a{b}", "nonsense", "limits.rooms=0"]);
    let told = Mistakes(found.clone()).to_string();
    for expected in [
        "9 mistakes in the settings",
        "settings.toml, line 2): 7400 given, text expected",
        "settings.toml, line 3): there is no such key; did you mean edge.listen?",
        "settings.toml, line 6): there is no such key; did you mean archive.max_rows?",
        "MILLSTREAM__REDIS__PARTITION: there is no such key; did you mean MILLSTREAM__REDIS__PARTITIONS?",
        "MILLSTREAM__ARCHIVE__MAX_ROWS: \"many\" given, a whole number expected",
        "auth.hs256_secret (variable MILLSTREAM__AUTH__HS256_SECRET): 5 bytes given, 32 or more expected",
        "redis.prefix (--set): \"a{b}\" given",
        "nonsense (--set): key=value expected",
        "limits.rooms (--set): 0 given, 1 to 1000000 is possible",
    ] {
        assert!(told.contains(expected), "{expected}\n\nis not in\n\n{told}");
    }
    assert_eq!(found.len(), 9, "{told}");
}

#[test]
fn a_file_that_is_missing_or_malformed_is_one_mistake_beside_others() {
    let found = mistakes("[edge\nlisten = 1", &[("MILLSTREAM__EDGE__ID", "a b")], &[]);
    assert_eq!(found.len(), 2);
    assert!(found[0].to_string().contains("line 1"), "{}", found[0]);
    let mut options = LoadOptions::new(Process::Tool);
    options.file = Some("/nowhere/millstream.toml".into());
    let told = Settings::load(&options).unwrap_err().to_string();
    assert!(told.starts_with("/nowhere/millstream.toml: can't be read: "), "{told}");
}

#[test]
fn sections_and_values_are_not_mixed_up() {
    assert_eq!(mistakes("edge = 5", &[], &[])[0].subject, "edge");
    assert_eq!(mistakes("[edge.listen]\nhost = \"x\"", &[], &[])[0].subject, "edge.listen.host");
    assert_eq!(mistakes("[egde]", &[], &[])[0].subject, "egde");
    assert!(load("[edge]", &[], &[]).is_ok());
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let (_folder, path) = file(&format!("{SECRET}\n"));
    let path = path.to_str().unwrap();
    let environment = [
        ("MILLSTREAM__AUTH__HS256_SECRET_FILE", path),
        ("MILLSTREAM__API__KEY", "api-key-0123456789"),
        ("REDIS_URL", "redis://me:hunter2@host:6379/1"),
        ("MILLSTREAM__CALLBACK__SECRET", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        ("DATA_CALLBACK_URL", "https://me:hunter2@host/?token=hunter2"),
    ];
    let loaded = load("", &environment, &[]).unwrap();
    assert_eq!(loaded.settings.auth.hs256_secret.expose(), SECRET, "without its line end");
    let shown = format!("{loaded:?}");
    for secret in [SECRET, "api-key", "whsec_Mf"] {
        assert!(!shown.contains(secret), "{secret} shows");
    }
    let line = |key: &str| loaded.lines.iter().find(|line| line.key == key).unwrap().clone();
    assert_eq!(line("redis.url").value.unwrap(), "\"redis://me:***@host:6379/1\"");
    assert_eq!(line("callback.endpoints.0.url").value.unwrap(), "\"https://me:***@host/?token=***\"");
    assert_eq!(line("callback.endpoints.0.secrets").value.unwrap(), "[\"***\"]");
    assert_eq!(line("auth.hs256_secret").value.unwrap(), "\"***\"");
    assert!(line("auth.hs256_secret").source.to_string().contains("MILLSTREAM__AUTH__HS256_SECRET_FILE"));
    assert_eq!(line("auth.audience").value, None);

    let both = [environment[0], ("MILLSTREAM__AUTH__HS256_SECRET", SECRET)];
    assert!(mistakes("", &both, &[])[0].what.contains("which one counts?"));
    let missing = mistakes("", &[("MILLSTREAM__API__KEY_FILE", "/nowhere/key")], &[]);
    assert!(missing[0].what.starts_with("the file /nowhere/key can't be read"));
    assert_eq!(mistakes("", &[("MILLSTREAM__EDGE__LISTEN_FILE", path)], &[]).len(), 1, "no secret, no file");
}

#[test]
fn the_edge_needs_a_key_for_tokens_and_others_do_not() {
    let load = |process| Settings::load(&LoadOptions::new(process));
    let told = load(Process::Edge).unwrap_err().to_string();
    assert_eq!(told, "auth.hs256_secret: the edge needs it to check tokens (32 bytes or more)");
    for process in [Process::Archive, Process::Replay, Process::Callback, Process::Api, Process::Tool] {
        assert!(load(process).is_ok(), "{process}");
    }
}

#[test]
fn lists_are_separated_by_commas_and_words_and_numbers_are_told_apart() {
    let environment = [
        ("MILLSTREAM__EDGE__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
        ("MILLSTREAM__EDGE__FIRST_JOIN_LAST", "start"),
        ("MILLSTREAM__ARCHIVE__MAX_DELAY", "200ms"),
        ("MILLSTREAM__DATABASE__MIGRATE", "no"),
        ("MILLSTREAM__REDIS__DURABILITY", "replicated(2)"),
        ("MILLSTREAM__RETENTION__ARCHIVE_MAX_AGE", "90days"),
    ];
    let settings = load("", &environment, &["edge.first_join_last=20"]).unwrap().settings;
    assert_eq!(settings.edge.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(settings.edge.first_join_last, FirstJoin::Last(20));
    assert_eq!(settings.archive.max_delay, Span::millis(200));
    assert!(!settings.database.migrate);
    assert_eq!(settings.redis.durability, Durability::Replicated(2));
    assert_eq!(settings.retention.archive_max_age, Some(Span::secs(90 * 86_400)));
}

#[test]
fn risky_pairs_and_likely_typing_mistakes_are_warned_about() {
    let environment = [("MILLSTREAM_EDGE_LISTEN", "0.0.0.0:1")];
    let set = ["group.lease_ttl=2s", "redis.durability=memory"];
    let warnings = load("", &environment, &set).unwrap().warnings;
    let told = warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(told.contains("MILLSTREAM_EDGE_LISTEN: is not read; did you mean MILLSTREAM__EDGE__LISTEN?"), "{told}");
    assert!(told.contains("group.lease_ttl: is under three times"), "{told}");
    assert!(told.contains("redis.durability: memory promises nothing"), "{told}");
}

#[test]
fn endpoints_are_checked_one_by_one() {
    let text = "[[callback.endpoints]]\nname = \"a\"\nurl = \"https://a/\"\n\
                [[callback.endpoints]]\nname = \"a\"\nurl = \"ftp://a\"\nsecrets = [\"hunter2\"]\nkindz = [\"data\"]\n";
    let told = load(text, &[], &[]).unwrap_err().to_string();
    for expected in [
        "line 5): \"a\" is the name of another endpoint",
        "line 6): \"ftp://a\" given",
        "line 7): whsec_ and base64 expected",
        "line 8): there is no such key; did you mean callback.endpoints.*.kinds?",
    ] {
        assert!(told.contains(expected), "{expected}\n\nis not in\n\n{told}");
    }
    assert!(!told.contains("hunter2"));
}
