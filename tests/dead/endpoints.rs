//! Endpoints that are paused, and groups of those that are gone.

use serde_json::{Value, json};

use crate::send_numbers;
use crate::support::{Receiver, Reply, Respond, Stack, eventually, millstream, wait_until};

async fn state(stack: &Stack) -> Value {
    let list = millstream(&["endpoints", "list", "--json"], stack.env()).await.ok().json();
    list[0].clone()
}

#[tokio::test]
async fn an_endpoint_that_answered_410_is_resumed_by_name() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Status(410));
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    send_numbers(&stack, "room", 3).await;
    wait_until("it is paused", async || state(&stack).await["state"] == "paused").await;
    receiver.answer(|_| Respond::Status(200));
    assert!(crate::accepted(&receiver).is_empty());
    let unknown = millstream(&["endpoints", "resume", "dta"], stack.env()).await;
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("data"), "{}", unknown.err);
    let said = millstream(&["endpoints", "resume", "data"], stack.env()).await.ok().out;
    assert!(said.contains("resumed"), "{said}");
    wait_until("what waited is delivered", async || crate::accepted(&receiver).len() == 3).await;
    assert_eq!(state(&stack).await["state"], "called");
}

#[tokio::test]
async fn a_paused_endpoint_gets_nothing_until_it_is_resumed() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let paused = millstream(&["endpoints", "pause", "callback:data", "--json"], stack.env()).await.ok().json();
    assert_eq!(paused["changed"], true);
    let again = millstream(&["endpoints", "pause", "data", "--json"], stack.env()).await.ok().json();
    assert_eq!(again["changed"], false);
    eventually("its worker knows", async || {
        (stack.metric("callback", "millstream_callback_paused{endpoint=\"data\"}").await >= 1.0).then_some(())
    })
    .await;
    send_numbers(&stack, "room", 3).await;
    let waits = async || {
        let pending = stack.redis().command(["XPENDING", &stack.key_of("room", "log"), "callback:data"]).await;
        !pending.is_error() && pending.list()[0].int() >= 3
    };
    wait_until("they wait at the worker", waits).await;
    assert!(crate::accepted(&receiver).is_empty());
    millstream(&["endpoints", "resume", "data"], stack.env()).await.ok();
    wait_until("what waited is delivered", async || crate::accepted(&receiver).len() == 3).await;
}

#[tokio::test]
async fn the_group_of_an_endpoint_that_left_is_removed_and_lets_the_log_go() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Hang);
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    send_numbers(&stack, "room", 3).await;
    wait_until("it is called", async || !receiver.seen().is_empty()).await;
    let args = ["groups", "remove", "callback:data", "--execute"];
    let in_settings = millstream(&args, stack.env()).await;
    assert_eq!(in_settings.code, Some(2));
    assert!(in_settings.err.contains("settings"), "{}", in_settings.err);
    let without: Vec<(String, String)> =
        stack.env().iter().filter(|(key, _)| key != "DATA_CALLBACK_URL").cloned().collect();
    let owned = millstream(&args, &without).await;
    assert_eq!(owned.code, Some(2), "a worker has it: {}", owned.out);
    stack.kill9("callback");

    millstream(&["flush"], &without).await.ok();
    let held = millstream(&["trim", "--keep", "0", "--execute", "--json"], &without).await.ok().json();
    assert_eq!(held["removed"], 0, "{held}");
    let plan = eventually("its leases have lapsed", async || {
        let said = millstream(&["groups", "remove", "callback:data", "--json"], &without).await;
        (said.code == Some(0)).then(|| said.json())
    })
    .await;
    assert!(plan["unsettled"].as_u64() >= Some(3) && plan["executed"] == false, "{plan}");
    let groups = async || {
        let reply = stack.redis().command(["XINFO", "GROUPS", &stack.key_of("room", "log")]).await;
        reply.list().into_iter().map(|group| group.list()[1].text()).collect::<Vec<_>>()
    };
    assert!(groups().await.contains(&"callback:data".to_owned()), "a plan changes nothing");
    wait_until("it may be removed", async || millstream(&args, &without).await.code == Some(0)).await;
    assert!(!groups().await.contains(&"callback:data".to_owned()));
    let trimmed = millstream(&["trim", "--keep", "0", "--execute", "--json"], &without).await.ok().json();
    assert!(trimmed["removed"].as_u64() >= Some(2), "{trimmed}");
    // Or a wiped Redis would have it made again.
    wait_until("Postgres forgets it", async || {
        let left: i64 = sqlx::query_scalar(r#"SELECT count(*) FROM checkpoints WHERE "group" = 'callback:data'"#)
            .fetch_one(&stack.database.pool)
            .await
            .unwrap();
        left == 0
    })
    .await;
    let gone = millstream(&["groups", "remove", "callback:data"], &without).await;
    assert_eq!(gone.code, Some(2));
    for needed in ["archive", "replay"] {
        let refused = millstream(&["groups", "remove", needed, "--execute"], &without).await;
        assert_eq!(refused.code, Some(2), "{}", refused.out);
    }
    let key = format!("{}:dead:callback:data", stack.prefix);
    assert_eq!(stack.redis().command(["XLEN", &key]).await, Reply::Int(0));
    assert_eq!(json!(groups().await), json!(["archive"]));
}
