//! A Postgres of our own for the tests of this crate's modules: one server for all of them, one
//! database for each.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Store;
use crate::config::{DatabaseSettings, Secret, Span};
use crate::model::{Entry, EntryId, EntryKind, Event, Item, Message, Room, SenderType};

static SERVER: Mutex<Option<u16>> = Mutex::new(None);
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The settings of a new, empty database.
pub(crate) async fn database() -> DatabaseSettings {
    let port = tokio::task::spawn_blocking(server).await.unwrap();
    let name = format!("t{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let settings = |name: &str| DatabaseSettings {
        url: Secret::new(format!("postgres://postgres@127.0.0.1:{port}/{name}")),
        connections_max: 4,
        connect_timeout: Span::secs(20),
        ..DatabaseSettings::default()
    };
    let admin = Store::connect(&settings("postgres")).unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin.pool).await.unwrap();
    admin.close().await;
    settings(&name)
}

/// A store on a new database, migrated.
pub(crate) async fn store() -> Store {
    let store = Store::connect(&database().await).unwrap();
    store.migrate().await.unwrap();
    store
}

/// Runs a statement of the test's own.
pub(crate) async fn execute(store: &Store, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&store.pool).await.unwrap();
}

/// The only number that a query gives.
pub(crate) async fn number(store: &Store, sql: &str) -> i64 {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql.to_owned())).fetch_one(&store.pool).await.unwrap()
}

/// A message `seq` of `room` at `ms-n`.
pub(crate) fn message(room: &str, ms: u64, n: u64, seq: u64, body: &str) -> Entry {
    let cid = format!("c{seq}");
    let item = Item::Message(Message {
        user: "alice",
        device: "phone",
        cid: &cid,
        kind: "text",
        body,
        sender_type: SenderType::User,
        file: None,
    });
    entry(room, ms, n, seq, EntryKind::Message, &item)
}

/// An event of `room` at `ms-n`.
pub(crate) fn event(room: &str, ms: u64, n: u64, seq: u64, name: &str, user: &str) -> Entry {
    let item = Item::Event(Event { event: name, user: Some(user), data: None });
    entry(room, ms, n, seq, EntryKind::Event, &item)
}

fn entry(room: &str, ms: u64, n: u64, seq: u64, kind: EntryKind, item: &Item<'_>) -> Entry {
    let room = Room::new(room).unwrap();
    Entry { id: EntryId::new(ms, n), room, seq, kind, envelope: item.encode().into() }
}

fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|dir| dir.path().join("bin").join(name)).collect();
    found.sort();
    found.into_iter().rfind(|path| path.exists()).unwrap_or_else(|| name.into())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n")
}

/// As the account `postgres` when the tests run as root, which Postgres refuses.
fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    // The server dies with the tests, however they end, and its folder after it.
    let script = r#"trap 'kill -INT $child' TERM; "$@" & child=$!; wait $child || wait $child; rm -rf "$PGFOLDER""#;
    command.args(["--pdeathsig=TERM", "sh", "-c", script, "sh"]).arg(program);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The port of the server, which is started by whoever asks first.
fn server() -> u16 {
    let mut started = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    *started.get_or_insert_with(|| {
        let dir = tempfile::Builder::new().prefix("millstream-pg").tempdir().unwrap().keep();
        if is_root() {
            Command::new("chown").arg("postgres").arg(&dir).status().unwrap();
        }
        let data = dir.join("data");
        let mut init = unprivileged(&binary("initdb"));
        init.env("PGFOLDER", dir.join("none")).args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"]).arg(&data);
        assert!(init.status().unwrap().success(), "initdb");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut serve = unprivileged(&binary("postgres"));
        serve.env("PGFOLDER", &dir).arg("-D").arg(&data).args(["-p", &port.to_string(), "-k", ""]);
        serve.args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200"]);
        // The signal above is sent when the thread that started the server ends: this one never does.
        std::thread::spawn(move || {
            let status = serve.spawn().and_then(|mut child| child.wait());
            panic!("the tests' Postgres ended: {status:?}");
        });
        port
    })
}
