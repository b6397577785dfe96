//! `millstream dev`: everything in one process, on servers of its own.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod support;

use std::path::Path;

use serde_json::json;
use support::{Client, Format, Process, Receiver, eventually, get, wait_until};

/// A running `millstream dev`.
struct Dev {
    process: Process,
    edge: String,
    api: String,
}

impl Dev {
    async fn start(data: &Path, more: &[&str]) -> Self {
        let data = data.display().to_string();
        let mut args = vec!["dev", "--data-dir", &data, "--edge-listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0"];
        args.extend(more);
        // What lies about in somebody's environment is not for the servers of `dev`.
        let env = [("REDIS_URL", "redis://127.0.0.1:1"), ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")];
        let process = Process::spawn("millstream", &args, &env);
        let ready = process.ready().await;
        let address = |name: &str| ready.iter().find_map(|word| word.strip_prefix(name)).unwrap().to_owned();
        Self { edge: address("edge="), api: address("api="), process }
    }

    /// A client with the token of the first screen.
    async fn client(&self, device: &str) -> Client {
        let screen = self.process.stdout();
        let token = screen.split_whitespace().find(|word| word.starts_with("eyJ")).unwrap();
        Client::hello_at(&self.edge, Format::Json, token, device).await
    }
}

fn data_dir() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("millstream-dev-").tempdir_in("/tmp").unwrap()
}

async fn psql(data: &Path, query: &str) -> String {
    let url = std::fs::read_to_string(data.join("postgres.url")).unwrap();
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(1).connect(url.trim()).await.unwrap();
    let text: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query.to_owned())).fetch_one(&pool).await.unwrap();
    pool.close().await;
    text
}

/// The walk-through of a new user, with a `kill -9` in the middle.
#[tokio::test]
async fn it_serves_is_killed_and_goes_on_where_it_was() {
    let (dir, receiver) = (data_dir(), Receiver::start().await);
    let data = dir.path().join("mill");
    let dev = Dev::start(&data, &["--callback-url", &receiver.url()]).await;
    let mut alice = dev.client("phone").await;
    alice.join("lobby", json!("start")).await;
    let sent = alice.send("lobby", "c-1", json!({ "text": "hello" })).await;
    alice.delivered_up_to("lobby", 1).await;
    eventually("the callback", async || receiver.accepted().into_iter().find(|c| c.json()["data"]["cid"] == "c-1"))
        .await;
    let count = "SELECT count(*)::text FROM messages WHERE room = 'lobby'";
    wait_until("the row is in Postgres", async || psql(&data, count).await == "1").await;
    assert_eq!(get(&dev.api, "/livez", &[]).await.0, 200);

    dev.process.kill9();
    let dev = Dev::start(&data, &[]).await;
    let mut alice = dev.client("phone").await;
    alice.join("lobby", json!("start")).await;
    assert_eq!(alice.bodies("lobby"), [json!({ "text": "hello" })]);
    let again = alice.send("lobby", "c-1", json!({ "text": "hello" })).await;
    assert_eq!((&again["id"], &again["duplicate"]), (&sent["id"], &json!(true)));
    assert_eq!(alice.send("lobby", "c-2", json!(2)).await["seq"], 2);

    assert!(dev.process.stop().await.success(), "{}", dev.process.stderr());
    let complaints = |line: &&str| !line.contains("an earlier run left");
    assert_eq!(dev.process.stderr().lines().find(complaints), None);
}

/// What it started must not outlive it, even when it had no chance to say goodbye.
#[tokio::test]
async fn its_servers_end_with_it() {
    let dir = data_dir();
    let dev = Dev::start(dir.path(), &[]).await;
    let url = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let addr = |url: String| url.trim().split_once('@').unwrap().1.split('/').next().unwrap().to_owned();
    let servers = [addr(url("redis.url")), addr(url("postgres.url"))];
    for server in &servers {
        assert!(tokio::net::TcpStream::connect(server).await.is_ok());
    }
    dev.process.kill9();
    for server in &servers {
        wait_until("the server has ended", async || tokio::net::TcpStream::connect(server).await.is_err()).await;
    }
}

#[tokio::test]
async fn a_second_one_on_the_same_folder_says_so() {
    let dir = data_dir();
    let dev = Dev::start(dir.path(), &[]).await;
    let data = dir.path().display().to_string();
    let second = Process::spawn::<&str, &str>("millstream", &["dev", "--data-dir", &data], &[]);
    assert_eq!(second.status().await.code(), Some(2));
    assert!(second.stderr().contains("another millstream dev is running with it"), "{}", second.stderr());
    let third = Process::spawn::<&str, &str>(
        "millstream",
        &["dev", "--data-dir", &format!("{data}/other"), "--edge-listen", &dev.edge],
        &[],
    );
    assert_eq!(third.status().await.code(), Some(2));
    assert!(third.stderr().contains("--edge-listen"), "{}", third.stderr());
}
