//! Section 1: the handshake, `hello`, and the limits on both.

use serde_json::json;

use crate::support::{Client, Format, SECRET, Stack, get, now_s, token, token_of, wait_until};

const JSON: (&str, &str) = ("sec-websocket-protocol", "millstream.v1.json");

async fn refused(addr: &str, headers: &[(&'static str, &str)]) -> u16 {
    match Client::try_connect(addr, headers, Format::Json).await {
        Ok(_) => panic!("the handshake was accepted"),
        Err(refused) => refused.status.expect("an HTTP answer"),
    }
}

/// What the table of section 1 says of the upgrade request.
#[tokio::test]
async fn the_handshake_is_answered_as_the_protocol_says() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__ALLOWED_ORIGINS", "https://good.example").start().await;
    let addr = stack.addr("edge");
    let good = token("alice", &[("*", "rw")]);
    let (header, expired) = (format!("Bearer {good}"), token_of(&json!({ "sub": "a", "exp": now_s() - 31 }), SECRET));

    assert_eq!(refused(addr, &[("sec-websocket-protocol", "chat.v9")]).await, 400);
    assert_eq!(refused(addr, &[JSON, ("origin", "https://evil.example")]).await, 403);
    assert_eq!(refused(addr, &[JSON, ("authorization", "Bearer nonsense")]).await, 401);
    assert_eq!(refused(addr, &[JSON, ("authorization", &format!("Bearer {expired}"))]).await, 401);
    assert_eq!(refused(addr, &[("sec-websocket-protocol", "millstream.v1.json, bearer.nonsense")]).await, 401);

    let as_protocol = format!("millstream.v1.json, bearer.{good}");
    let accepted: [&[(&'static str, &str)]; 4] = [
        &[JSON, ("origin", "https://good.example"), ("authorization", &header)],
        &[JSON, ("authorization", &header)],
        &[("sec-websocket-protocol", &as_protocol)],
        &[("authorization", &header)],
    ];
    for headers in accepted {
        let mut client = Client::try_connect(addr, headers, Format::Json).await.expect("an upgrade");
        client.send_frame(&json!({ "type": "hello", "device": "d" })).await;
        let welcome = client.expect("welcome").await;
        assert_eq!((&welcome["user"], &welcome["device"]), (&json!("alice"), &json!("d")));
    }
    assert_eq!(get(addr, "/elsewhere", &[]).await.0, 404);
    assert_eq!(get(addr, "/v1/connect", &[]).await.0, 400, "no upgrade");
    assert_eq!(get(addr, "/livez", &[]).await.0, 200);
    assert_eq!(get(addr, "/readyz", &[]).await.0, 200);
}

/// `welcome` says what a client has to know, and the connection follows its own rooms by itself.
#[tokio::test]
async fn a_welcome_tells_the_limits_and_the_own_rooms_are_joined() {
    let stack = Stack::start().await;
    let mut client = Client::connect(stack.addr("edge"), Format::Json).await;
    client.send_frame(&json!({ "type": "hello", "token": token("alice", &[("*", "rw")]) })).await;
    let welcome = client.expect("welcome").await;
    assert!(!welcome["device"].as_str().unwrap().is_empty(), "made up");
    assert!(!welcome["connection"].as_str().unwrap().is_empty());
    assert!(welcome["server"].as_str().unwrap().starts_with("millstream/"));
    assert_eq!(welcome["heartbeat_ms"], 25_000);
    assert!(welcome["expires_at"].as_u64().unwrap() > now_s() * 1_000);
    let limits = json!({
        "message_bytes": 65_536, "body_bytes": 32_768, "rooms": 1_000, "unacked_sends": 64, "sends_per_second": 100,
    });
    assert_eq!(welcome["limits"], limits);
    client.expect_in("live", "@user:alice").await;
    client.expect_in("live", "@all").await;
    client.send_frame(&json!({ "type": "ping", "ref": "p" })).await;
    assert_eq!(client.expect("pong").await["ref"], "p");
}

/// The first frame must be `hello`, in time, with a good token.
#[tokio::test]
async fn a_connection_without_a_good_hello_is_closed() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "300ms").start().await;
    let addr = stack.addr("edge");
    let mut silent = Client::connect(addr, Format::Json).await;
    assert_eq!(silent.closed().await.0, 4001);

    let wrong_audience = token_of(&json!({ "sub": "", "exp": now_s() + 60 }), SECRET);
    for token in [Some("nonsense"), Some(wrong_audience.as_str()), None] {
        let mut client = Client::connect(addr, Format::MsgPack).await;
        client.send_frame(&json!({ "type": "hello", "token": token })).await;
        client.expect_error("unauthorized").await;
        assert_eq!(client.closed().await.0, 4500);
    }
}

/// More connections of one user than allowed, more handshakes of one address than allowed.
#[tokio::test]
async fn connections_and_handshakes_have_limits() {
    let stack = Stack::builder()
        .env("MILLSTREAM__LIMITS__CONNECTIONS_PER_USER", "2")
        .env("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "1")
        .env("MILLSTREAM__LIMITS__HANDSHAKE_BURST", "5")
        .start()
        .await;
    let _first = stack.client("alice", "one").await;
    let _second = stack.client("alice", "two").await;
    let mut third = Client::connect(stack.addr("edge"), Format::Json).await;
    third.send_frame(&json!({ "type": "hello", "token": token("alice", &[]), "device": "three" })).await;
    third.expect_error("rate_limited").await;
    assert_eq!(third.closed().await.0, 4290);

    let mut statuses = Vec::new();
    for _ in 0..5 {
        match Client::try_connect(stack.addr("edge"), &[JSON], Format::Json).await {
            Ok(_) => statuses.push(101),
            Err(refused) => statuses.push(refused.status.unwrap_or(0)),
        }
    }
    assert!(statuses.contains(&429), "{statuses:?}");
}

/// The order of starting doesn't matter: an edge serves before the log is initialised, says what is
/// missing, and goes on when it is there.
#[tokio::test]
async fn an_edge_that_starts_first_serves_and_is_ready_later() {
    let mut stack = Stack::builder().workers(&[]).env("MILLSTREAM__EDGE__PUBLISH_RETRY", "100ms").start().await;
    let (status, why) = get(stack.addr("edge"), "/readyz", &[]).await;
    assert_eq!(status, 503);
    assert!(why.contains("archive worker"), "{why}");
    let mut client = stack.client("alice", "a").await;
    client.send_frame(&json!({ "type": "send", "room": "hall", "cid": "c1", "body": 1 })).await;
    assert_eq!(client.expect_error("unavailable").await["retryable"], true);
    stack.add("archive", "archive", &[]);
    stack.add("replay", "replay", &[]);
    assert_eq!(client.send_until_sent("hall", "c1", json!(1)).await["seq"], 1);
    client.join("hall", json!("start")).await;
    assert_eq!(client.bodies("hall"), [json!(1)]);
    wait_until("the edge is ready", async || get(stack.addr("edge"), "/readyz", &[]).await.0 == 200).await;
}
