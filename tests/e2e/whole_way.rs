//! The thinnest whole path.

use serde_json::json;

use crate::support::{Client, Receiver, Stack, eventually, token};

/// One message, and everything that is promised of it.
#[tokio::test]
async fn a_message_reaches_its_reader_the_archive_and_the_endpoint() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client("bob", "desk").await;
    bob.join("chat", json!("now")).await;

    let sent = alice.send("chat", "c-1", json!({ "text": "hello" })).await;
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));

    let message = bob.expect_in("message", "chat").await;
    assert_eq!(message["id"], sent["id"]);
    assert_eq!(message["body"], json!({ "text": "hello" }));
    assert_eq!((&message["user"], &message["device"]), (&json!("alice"), &json!("phone")));
    assert_eq!((&message["cid"], &message["kind"]), (&json!("c-1"), &json!("text")));

    assert_eq!(stack.logged("chat").await, [(1, "c-1".to_owned())]);
    assert_eq!(stack.archived_when("chat", 1).await, [(1, "c-1".to_owned())]);
    let body: serde_json::Value =
        sqlx::query_scalar::<_, String>("SELECT body::text FROM messages WHERE room = 'chat'")
            .fetch_one(&stack.database.pool)
            .await
            .map(|text| serde_json::from_str(&text).unwrap())
            .unwrap();
    assert_eq!(body, json!({ "text": "hello" }));

    let callback = eventually("the callback", async || {
        receiver.accepted().into_iter().find(|callback| callback.json()["type"] == "message")
    })
    .await;
    let data = &callback.json()["data"];
    assert_eq!((&data["room"], &data["id"], &data["cid"]), (&json!("chat"), &sent["id"], &json!("c-1")));
    assert!(callback.headers["webhook-signature"].starts_with("v1,"));
}

#[tokio::test]
async fn a_device_that_comes_back_gets_what_it_missed_and_no_more() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client("bob", "desk").await;
    bob.join("chat", json!("start")).await;
    for n in 1..=3 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    bob.delivered_up_to("chat", 3).await;
    bob.ack_delivered("chat").await;
    bob.close().await;

    for n in 4..=8 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    let mut bob = stack.client("bob", "desk").await;
    let joined = bob.join("chat", json!("saved")).await;
    assert_eq!((&joined["resume"], &joined["since"]["seq"]), (&json!("resumed"), &json!(3)));
    bob.delivered_up_to("chat", 8).await;
    assert_eq!(bob.bodies("chat"), [json!(4), json!(5), json!(6), json!(7), json!(8)]);
}

/// Each device has cursors of its own: what one has read, the other still gets.
#[tokio::test]
async fn two_devices_of_a_user_are_independent() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send("chat", "c-1", json!(1)).await;
    let mut first = stack.client("bob", "desk").await;
    first.join("chat", json!("start")).await;
    first.delivered_up_to("chat", 1).await;
    first.ack_delivered("chat").await;
    first.close().await;

    let mut second = stack.client("bob", "sofa").await;
    second.join("chat", json!("saved")).await;
    assert_eq!(second.bodies("chat"), [json!(1)]);
    let mut first = stack.client("bob", "desk").await;
    first.join("chat", json!("saved")).await;
    assert!(first.bodies("chat").is_empty());
}

/// What the token doesn't grant is refused, and the connection goes on.
#[tokio::test]
async fn a_right_that_is_not_granted_is_forbidden() {
    let stack = Stack::start().await;
    let mut client = Client::connect(stack.addr("edge"), crate::support::Format::Json).await;
    client.hello(&token("carol", &[("lobby", "r")]), "tab").await;
    client.join("lobby", json!("now")).await;
    client.send_frame(&json!({ "type": "send", "room": "lobby", "cid": "c", "body": 1, "ref": 7 })).await;
    let error = client.expect_error("forbidden").await;
    assert_eq!((&error["ref"], &error["retryable"]), (&json!(7), &json!(false)));
    client.send_frame(&json!({ "type": "ping" })).await;
    client.expect("pong").await;
}
