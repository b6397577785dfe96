//! Commands that need no server.

use millstream::auth::{Access, Verifier};
use millstream::config::{LoadOptions, Process, Settings};
use millstream::model::Room;

use crate::millstream;
use crate::support::SECRET;

fn with_secret() -> Vec<(String, String)> {
    vec![("MILLSTREAM__AUTH__HS256_SECRET".into(), SECRET.into())]
}

#[tokio::test]
async fn all_mistakes_are_told_in_one_run_with_the_nearest_right_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    std::fs::write(&file, "[archive]\nmax_row = 5\nmax_delay = \"soon\"\n[redis]\npartitions = 0\n").unwrap();
    let env = vec![("MILLSTREAM__EDGE__LISTN".to_owned(), "x".to_owned())];
    let said = millstream(&["config", "check", "--config", file.to_str().unwrap()], &env).await;
    assert_eq!(said.code, Some(2), "{}{}", said.out, said.err);
    for part in ["archive.max_rows?", "line 2", "archive.max_delay", "redis.partitions", "millstream__edge__listen"] {
        assert!(said.out.to_lowercase().contains(part), "{part} is not in:\n{}", said.out);
    }
    let json = millstream(&["config", "check", "--json", "--config", file.to_str().unwrap()], &env).await;
    assert_eq!(json.code, Some(2));
    let json = json.json();
    assert_eq!(json["ok"], false);
    assert!(json["mistakes"].as_array().unwrap().len() >= 4, "{json}");
}

#[tokio::test]
async fn settings_without_a_mistake_pass() {
    let said = millstream(&["config", "check"], &with_secret()).await;
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/config/millstream.toml");
    let shipped = millstream(&["config", "check", "--config", file], &[]).await;
    assert_eq!(shipped.code, Some(0), "{}{}", shipped.out, shipped.err);
    assert!(shipped.out.contains("auth.hs256_secret") && shipped.out.contains("[for edge]"), "{}", shipped.out);
    let edge = millstream(&["config", "check", "--config", file, "--for", "edge"], &[]).await;
    assert_eq!(edge.code, Some(2), "{}{}", edge.out, edge.err);
}

#[tokio::test]
async fn every_value_is_shown_with_its_source_and_no_secret() {
    let mut env = with_secret();
    env.push(("REDIS_URL".into(), "redis://:hidden@cache:6379".into()));
    let said = millstream(&["config", "print", "--set", "archive.max_rows=70", "--json"], &env).await.ok();
    assert!(!said.out.contains(SECRET) && !said.out.contains("hidden"), "{}", said.out);
    let lines = said.json();
    let line = |key: &str| lines.as_array().unwrap().iter().find(|line| line["key"] == key).unwrap().clone();
    assert_eq!(line("archive.max_rows")["value"], 70);
    assert_eq!(line("archive.max_rows")["source"], "--set");
    assert_eq!(line("redis.url")["source"], "variable REDIS_URL");
    assert_eq!(line("edge.listen")["source"], "default");
    let changed = millstream(&["config", "print", "--changed", "--set", "archive.max_rows=70"], &[]).await.ok();
    assert_eq!(changed.out.lines().count(), 2, "{}", changed.out);
}

#[tokio::test]
async fn a_token_is_alone_on_standard_output_and_an_edge_accepts_it() {
    let args = ["token", "--user", "alice", "--rooms", "team:*=rw", "lobby=r", "--rooms", "x=w", "--ttl", "2h"];
    let said = millstream(&args, &with_secret()).await.ok();
    assert_eq!(said.out.lines().count(), 1);
    let options = LoadOptions { environment: with_secret(), ..LoadOptions::new(Process::Edge) };
    let settings = Settings::load(&options).unwrap().settings;
    let claims = Verifier::new(&settings.auth).unwrap().verify(said.out.trim()).unwrap();
    assert_eq!(claims.user.as_str(), "alice");
    let allows = |room, access| claims.rights.allows(&Room::new(room).unwrap(), access);
    assert!(allows("team:1", Access::Write) && allows("lobby", Access::Read) && allows("x", Access::Write));
    assert!(!allows("lobby", Access::Write) && !allows("other", Access::Read));
}

#[tokio::test]
async fn without_a_secret_no_token_is_made_and_the_key_is_named() {
    let said = millstream(&["token", "--user", "alice"], &[]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.out.is_empty() && said.err.contains("auth.hs256_secret"), "{}", said.err);
}

#[tokio::test]
async fn a_wrong_time_is_told_before_anything_is_touched() {
    let said = millstream(&["trim", "--before", "yesterday"], &[]).await;
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("yesterday"), "{}", said.err);
}

#[tokio::test]
async fn a_redis_that_is_not_there_ends_with_1_and_advice() {
    let env = vec![("REDIS_URL".to_owned(), "redis://127.0.0.1:1".to_owned())];
    let said = millstream(&["groups", "--set", "redis.connect_timeout=300ms"], &env).await;
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.err.contains("redis://127.0.0.1:1") && said.err.contains("REDIS_URL"), "{}", said.err);
}

#[tokio::test]
async fn shells_get_completions_for_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let said = millstream(&["completions", shell], &[]).await.ok();
        assert!(said.out.contains("replay") && said.out.contains("force-lossy"), "{shell}");
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let program = crate::support::Process::path("millstream");
    let script = format!("{program} config print | head -n 1; exit ${{PIPESTATUS[0]}}");
    let status = tokio::process::Command::new("bash").args(["-c", &script]).output().await.unwrap().status;
    assert!(status.success());
}
