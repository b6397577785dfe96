//! The support itself: what other tests believe of it.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod support;

use support::{Mode, Postgres, Proxy, Receiver, Redis, Reply, Respond, eventually, token_of};

/// Faults are made with these; a server that lost its data at a kill would hide a loss of ours.
#[tokio::test]
async fn a_killed_redis_keeps_its_port_and_its_data() {
    let redis = Redis::start(&[]).await;
    redis.command(["SET", "k", "v"]).await;
    redis.kill9();
    assert!(redis.try_command(["GET", "k"]).await.is_err());
    redis.start_again().await;
    assert_eq!(redis.command(["GET", "k"]).await, Reply::Bytes(b"v".to_vec()));
    assert_eq!(redis.command(["CONFIG", "GET", "appendfsync"]).await.list()[1].text(), "always");
}

#[tokio::test]
async fn a_killed_postgres_comes_back_with_its_rows() {
    let postgres = Postgres::start().await;
    let database = postgres.database().await;
    sqlx::query("CREATE TABLE t AS SELECT 1 AS n").execute(&database.pool).await.unwrap();
    postgres.kill();
    postgres.start_again().await;
    let n: i32 =
        eventually("the row", async || sqlx::query_scalar("SELECT n FROM t").fetch_one(&database.pool).await.ok())
            .await;
    assert_eq!(n, 1);
}

#[tokio::test]
async fn a_proxy_breaks_and_mends() {
    let redis = Redis::shared().await;
    let proxy = Proxy::start(redis.addr()).await;
    let ping = async || {
        let client = support_ping(proxy.addr()).await;
        client.is_ok()
    };
    assert!(ping().await);
    proxy.set(Mode::Down);
    assert!(!ping().await);
    proxy.set(Mode::DropReplies);
    assert!(!ping().await);
    proxy.set(Mode::Pass);
    assert!(ping().await);
}

#[tokio::test]
async fn a_receiver_remembers_what_it_refused() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Status(503));
    assert!(support_post(receiver.addr()).await.starts_with("HTTP/1.1 503"));
    assert_eq!(receiver.seen()[0].status, 503);
    assert!(receiver.accepted().is_empty());
}

#[test]
fn a_token_has_three_parts() {
    assert_eq!(token_of(&serde_json::json!({ "sub": "a" }), "s").split('.').count(), 3);
}

async fn support_ping(addr: &str) -> std::io::Result<()> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(addr).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 5];
    let read = stream.read_exact(&mut answer);
    tokio::time::timeout(std::time::Duration::from_secs(2), read).await??;
    Ok(())
}

async fn support_post(addr: &str) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    stream
        .write_all(b"POST /hook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
