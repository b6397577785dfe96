//! `millstream replay`: a range once more, to a callback, to the archive, to standard output.

use serde_json::{Value, json};

use crate::millstream;
use crate::support::{Receiver, Stack, wait_until};

fn is_replay(callback: &crate::support::Callback) -> bool {
    callback.headers.get("millstream-replay").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn an_endpoint_gets_a_range_again_marked_so_and_live_delivery_goes_on() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..30 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    let messages = |replayed: bool| {
        let all = receiver.seen().into_iter().filter(move |callback| is_replay(callback) == replayed);
        all.filter(|callback| callback.json()["type"] == "message").collect::<Vec<_>>()
    };
    wait_until("all were called back", async || messages(false).len() >= 30).await;

    let args = ["replay", "--to", "callback:data", "--from", "start", "--room", "chat"];
    let plan = millstream(&args, stack.env()).await.ok();
    assert!(plan.out.contains("nothing was done"), "{}", plan.out);
    let env = stack.env().to_vec();
    let replay = tokio::spawn(async move {
        let args = ["replay", "--to", "callback:data", "--from", "start", "--room", "chat", "--execute", "--wait"];
        millstream(&args, &env).await
    });
    for n in 30..60 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    let done = replay.await.unwrap().ok();
    assert!(done.out.contains("has taken"), "{}", done.out);
    wait_until("live ones were called back", async || messages(false).len() >= 60).await;

    let live = messages(false);
    let bodies: Vec<Value> = live.iter().map(|callback| callback.json()["data"]["body"].clone()).collect();
    assert_eq!(bodies, (0..60).map(Value::from).collect::<Vec<_>>(), "live delivery is in order and once");
    let replayed = messages(true);
    assert!(replayed.len() >= 30, "{}", replayed.len());
    for (again, first) in replayed.iter().zip(&live) {
        assert_eq!(again.id(), first.id());
        assert_eq!(again.body, first.body);
    }
}

#[tokio::test]
async fn an_archive_that_lost_rows_gets_them_back() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..40 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    let before = stack.archived_when("chat", 40).await;
    sqlx::query("DELETE FROM messages WHERE room = 'chat' AND seq > 10").execute(&stack.database.pool).await.unwrap();
    assert_eq!(stack.archived("chat").await.len(), 10);
    let args = ["replay", "--to", "archive", "--from", "-1h", "--execute", "--wait", "--json"];
    let said = millstream(&args, stack.env()).await.ok().json();
    assert_eq!(said["executed"], true);
    assert_eq!(stack.archived("chat").await, before);
}

#[tokio::test]
async fn what_is_exported_is_what_was_accepted_from_the_log_and_beyond_it() {
    let stack = Stack::start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..60 {
        let room = if n % 2 == 0 { "even" } else { "odd" };
        alice.send(room, &format!("c-{n}"), json!(n)).await;
        if n == 29 {
            millstream(&["flush"], stack.env()).await.ok();
            let trimmed = millstream(&["trim", "--keep", "0", "--execute", "--json"], stack.env()).await.ok().json();
            assert!(trimmed["removed"].as_u64() >= Some(30), "{trimmed}");
        }
    }
    let bodies = |lines: Vec<Value>| {
        let messages = lines.into_iter().filter(|line| line["type"] == "message");
        messages.map(|line| line["body"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    let all = millstream(&["replay", "--to", "stdout", "--from", "start"], stack.env()).await.ok();
    // Between rooms there is no order within a millisecond.
    let mut all = bodies(all.json_lines());
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());
    let even = millstream(&["replay", "--to", "stdout", "--from", "-1h", "--room", "even"], stack.env()).await.ok();
    assert_eq!(bodies(even.json_lines()), (0..60).step_by(2).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_unknown_group_is_told_with_those_that_there_are() {
    let stack = Stack::start().await;
    let said = millstream(&["replay", "--to", "calback", "--from", "start"], stack.env()).await;
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("archive"), "{}", said.err);
    let gone = millstream(&["replay", "--resume", "nothing"], stack.env()).await;
    assert_eq!(gone.code, Some(2));
}

/// Nobody takes the copies, so the job fills what may wait and is interrupted there; resumed after the
/// group is back it copies the rest, and nothing twice.
#[tokio::test]
async fn an_interrupted_replay_is_resumed_without_copying_twice() {
    let receiver = Receiver::start().await;
    let stack = Stack::builder().data_callback(&receiver.url()).start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..20 {
        alice.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    wait_until("all were called back", async || receiver.accepted().len() >= 20).await;
    stack.kill9("callback");
    let redeliver = stack.key_of("chat", "redeliver:callback:data");
    // Above the limit of what may wait, so that the job can't write its first page.
    let fill = "for i = 1, 10001 do redis.call('XADD', KEYS[1], '*', 'x', i) end";
    stack.redis().command(["EVAL", fill, "1", &redeliver]).await;
    let args = ["replay", "--to", "callback:data", "--from", "start", "--room", "chat", "--execute"];
    let job = crate::support::Process::spawn("millstream", &args, stack.env());
    wait_until("the job has a name", async || job.stderr().contains("job ")).await;
    job.signal("INT");
    assert_eq!(job.status().await.code(), Some(1));
    wait_until("it says how to go on", async || job.stderr().contains("--resume")).await;
    let told = job.stderr();
    let name = told.split("--resume ").nth(1).unwrap().split_whitespace().next().unwrap();

    stack.redis().command(["DEL", &redeliver]).await;
    let done = millstream(&["replay", "--resume", name, "--execute", "--json"], stack.env()).await.ok().json();
    let copied = done["copied"].as_u64().unwrap();
    assert!(copied >= 20, "{done}");
    let waiting = stack.redis().command(["XLEN", &redeliver]).await;
    assert_eq!(waiting, crate::support::Reply::Int(i64::try_from(copied).unwrap()));
    let again = millstream(&["replay", "--resume", name, "--execute"], stack.env()).await;
    assert_eq!(again.code, Some(2), "a job that is done is forgotten: {}", again.out);
}
