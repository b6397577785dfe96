//! `retry`: back to the group, from the letter itself, once.

use serde_json::json;

use crate::support::{Process, Receiver, Reply, Respond, millstream, wait_until, wait_until_eq};
use crate::{accepted, impatient, letters, number, refuse_odd, refuse_rows, send_numbers};

#[tokio::test]
async fn a_callback_letter_reaches_its_endpoint_with_the_same_id_and_body() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).start().await;
    send_numbers(&stack, "room", 4).await;
    let found = letters(&stack, &["callback:data"], 2).await;
    // The letter is what is given back: the log may have been trimmed since.
    for letter in &found {
        let gone =
            stack.redis().command(["XDEL", &stack.key_of("room", "log"), letter["original"].as_str().unwrap()]).await;
        assert_eq!(gone, Reply::Int(1));
    }
    let plan = millstream(&["dead", "retry", "--group", "callback:data"], stack.env()).await.ok().out;
    assert!(plan.contains("2 dead letters") && plan.contains("nothing was done"), "{plan}");
    letters(&stack, &["callback:data"], 2).await;

    receiver.answer(|_| Respond::Status(200));
    let done =
        millstream(&["dead", "retry", "--group", "callback:data", "--execute", "--json"], stack.env()).await.ok();
    assert_eq!(done.json()["given_back"], 2);
    wait_until("all are accepted", async || accepted(&receiver).len() == 4).await;
    letters(&stack, &[], 0).await;
    let seen = receiver.seen();
    for n in [1, 3] {
        let of: Vec<_> = seen.iter().filter(|callback| number(callback) == Some(n)).collect();
        assert_eq!(of.iter().map(|callback| callback.status).collect::<Vec<_>>(), [500, 200]);
        assert_eq!((of[0].id(), &of[0].body), (of[1].id(), &of[1].body));
    }
    let order: Vec<_> = seen.iter().filter(|callback| callback.status == 200).filter_map(number).collect();
    assert!(order.ends_with(&[1, 3]), "they come in their order: {order:?}");
}

#[tokio::test]
async fn a_letter_that_fails_again_is_given_up_again() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).start().await;
    send_numbers(&stack, "room", 2).await;
    let first = letters(&stack, &["callback:data"], 1).await.remove(0);
    let args = ["dead", "retry", "--id", first["original"].as_str().unwrap(), "--execute", "--json"];
    assert_eq!(millstream(&args, stack.env()).await.ok().json()["given_back"], 1);
    wait_until("it was tried again", async || {
        receiver.seen().iter().filter(|callback| number(callback) == Some(1)).count() == 2
    })
    .await;
    let again = letters(&stack, &["callback:data"], 1).await.remove(0);
    assert_ne!(again["id"], first["id"]);
    assert_eq!((&again["original"], &again["entry"]), (&first["original"], &first["entry"]));
    receiver.answer(|_| Respond::Status(200));
    assert_eq!(millstream(&args, stack.env()).await.ok().json()["given_back"], 1);
    wait_until("it is accepted", async || accepted(&receiver).get(&1) == Some(&1)).await;
}

#[tokio::test]
async fn an_archive_letter_is_written_once_the_table_is_mended() {
    let receiver = Receiver::start().await;
    let stack = impatient(&receiver).start().await;
    refuse_rows(&stack, "c-2").await;
    send_numbers(&stack, "room", 3).await;
    letters(&stack, &["archive"], 1).await;
    assert_eq!(stack.archived_when("room", 2).await.len(), 2);
    sqlx::query("ALTER TABLE messages DROP CONSTRAINT ours").execute(&stack.database.pool).await.unwrap();
    let args = ["dead", "retry", "--group", "archive", "--reason", "data", "--execute"];
    let done = millstream(&args, stack.env()).await.ok().out;
    assert!(done.contains("gave 1 entry back"), "{done}");
    let rows = stack.archived_when("room", 3).await;
    let wanted: Vec<(u64, String)> = (1..=3).map(|n| (n, format!("c-{n}"))).collect();
    assert_eq!(rows, wanted);
    letters(&stack, &[], 0).await;
    assert!(accepted(&receiver).values().all(|times| *times == 1), "the endpoint is not concerned");
}

/// The copy is there and the letter can't be removed: what a crash in between leaves. Whoever tries again
/// must find the mark, or the entry would be delivered twice.
#[tokio::test]
async fn a_retry_that_ends_between_copy_and_removal_loses_and_doubles_nothing() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).start().await;
    send_numbers(&stack, "room", 2).await;
    letters(&stack, &["callback:data"], 1).await;
    receiver.answer(|_| Respond::Status(200));

    let name = crate::support::unique("clumsy");
    stack.redis().command(["ACL", "SETUSER", &name, "on", ">pw", "~*", "&*", "+@all", "-xdel"]).await;
    let clumsy = format!("redis.url=redis://{name}:pw@{}", stack.redis().addr());
    let args = ["dead", "retry", "--group", "callback:data", "--execute", "--set", &clumsy];
    let broken = millstream(&args, stack.env()).await;
    assert_eq!(broken.code, Some(1), "{}", broken.out);
    letters(&stack, &["callback:data"], 1).await;
    wait_until("the copy is delivered", async || accepted(&receiver).get(&1) == Some(&1)).await;

    let again =
        millstream(&["dead", "retry", "--group", "callback:data", "--execute", "--json"], stack.env()).await.ok();
    assert_eq!(again.json()["given_back"], 0, "it had been given back");
    letters(&stack, &[], 0).await;
    let redeliver = stack.key_of("room", "redeliver:callback:data");
    assert_eq!(stack.redis().command(["XLEN", &redeliver]).await, Reply::Int(0));
    assert_eq!(accepted(&receiver).get(&1), Some(&1));
}

#[tokio::test]
async fn a_retry_that_is_killed_loses_and_doubles_nothing() {
    let receiver = Receiver::start().await;
    refuse_odd(&receiver);
    let stack = impatient(&receiver).env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0").start().await;
    send_numbers(&stack, "room", 120).await;
    letters(&stack, &["callback:data"], 60).await;
    receiver.answer(|_| Respond::Status(200));

    let key = format!("{}:dead:callback:data", stack.prefix);
    let left = async || stack.redis().command(["XLEN", &key]).await.int();
    let args = ["dead", "retry", "--group", "callback:data", "--execute"];
    while left().await > 0 {
        let before = left().await;
        let retry = Process::spawn("millstream", &args, stack.env());
        wait_until("some are given back", async || left().await <= before - 5 || retry.try_status().is_some()).await;
        retry.kill9();
    }
    wait_until_eq("all are accepted", 120, async || accepted(&receiver).len()).await;
    wait_until_eq("no copy waits", 0, async || {
        stack.redis().command(["XLEN", &stack.key_of("room", "redeliver:callback:data")]).await.int()
    })
    .await;
    let times = accepted(&receiver);
    assert!(times.values().all(|times| *times == 1), "{times:?}");
}

#[tokio::test]
async fn what_nobody_would_take_is_not_given_back() {
    let receiver = Receiver::start().await;
    let stack = impatient(&receiver).start().await;
    let key = format!("{}:dead:callback:gone", stack.prefix);
    let fields = ["partition", "0", "original", "1-1", "reason", "too_old", "error", "x", "attempts", "1"];
    let rest = ["first", "1", "last", "1", "r", "room"];
    stack.redis().command(["XADD", &key, "*"].iter().chain(&fields).chain(&rest)).await;
    let refused = millstream(&["dead", "retry", "--group", "callback:gone", "--execute"], stack.env()).await;
    assert_eq!(refused.code, Some(2), "{}", refused.out);
    let unknown = millstream(&["dead", "retry", "--group", "callback:nobody"], stack.env()).await;
    assert_eq!(unknown.code, Some(2), "{}", unknown.out);
    let left = letters(&stack, &["--group", "callback:gone"], 1).await;
    assert_eq!(left[0]["reason"], json!("too_old"));
}
