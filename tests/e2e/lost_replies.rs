//! A network between edge and Redis that loses replies: the command has run, and nobody heard so.

use serde_json::json;

use crate::support::{Mode, Proxy, Redis, Stack, unique, wait_until};

/// Calls that the edge repeated because nothing came back.
const RETRIES: &str = "millstream_publish_retries_total{kind=\"RedisUnavailable\"}";

/// fred's default policy sends a command again whose reply was lost, and would store it twice.
#[tokio::test]
async fn a_lost_reply_stores_nothing_twice() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start(redis.addr()).await;
    let mut stack = Stack::builder().edges(0).redis(redis).start().await;
    let url = format!("redis://{}", proxy.addr());
    stack.add("edge", "edge", &[("REDIS_URL", &url), ("MILLSTREAM__REDIS__COMMAND_TIMEOUT", "300ms")]);
    stack.process("edge").ready().await;

    let mut alice = stack.client("alice", "phone").await;
    alice.join("chat", json!("start")).await;
    alice.send("chat", &unique("before"), json!(0)).await;
    for round in 0..3 {
        let retries = stack.metric("edge", RETRIES).await;
        proxy.set(Mode::DropReplies);
        let cids: Vec<String> = (0..10).map(|_| unique("c")).collect();
        for cid in &cids {
            alice.send_frame(&json!({ "type": "send", "room": "chat", "cid": cid, "body": round })).await;
        }
        // The log has them, and the edge has waited for a reply in vain.
        let stored = 1 + (round + 1) * cids.len();
        wait_until("the sends are stored", async || stack.logged("chat").await.len() >= stored).await;
        wait_until("the edge misses a reply", async || stack.metric("edge", RETRIES).await > retries).await;
        proxy.set(Mode::Pass);
        for cid in &cids {
            let answer = alice.send_until_sent("chat", cid, json!(round)).await;
            assert_eq!(answer["cid"], *cid);
        }
        assert_eq!(stack.logged("chat").await.len(), stored, "a message was stored twice");
    }
    alice.delivered_up_to("chat", 31).await;
    assert_eq!(alice.bodies("chat").len(), 31);
}
