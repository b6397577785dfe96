//! The core of the suite, on a cluster.

use serde_json::{Value, json};

use crate::builder;
use crate::support::{
    Cluster, Format, Process, ROOMS, Receiver, Stack, Traffic, eventually, millstream, readers, wait_until,
};

/// Messages that have to be accepted before and after each kill.
const BETWEEN: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_on_one_redis_holds_on_a_cluster() {
    let receiver = Receiver::start().await;
    let cluster = Cluster::start(true).await;
    let mut stack = builder(&cluster, &receiver).start().await;
    devices_resume(&stack).await;
    signals_reach_the_other_edge(&stack).await;
    commands_work(&stack).await;

    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    for process in ["archive", "replay", "callback", "edge"] {
        traffic.goes_on(BETWEEN).await;
        stack.kill9(process);
        traffic.goes_on(BETWEEN).await;
        stack.start_again(process).await;
    }
    traffic.goes_on(BETWEEN).await;
    // Both while everything goes on.
    run(&stack, &["verify"]).await;
    run(&stack, &["doctor"]).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
    let verified = millstream(&["verify", "--json"], stack.env()).await.ok().json();
    assert_eq!(verified["differences"], json!([]), "{verified}");
}

/// What a command of the CLI writes that must succeed.
async fn run(stack: &Stack, args: &[&str]) -> String {
    millstream(args, stack.env()).await.ok().out
}

/// Join from the start, after the saved cursor, after one's own, in rooms of all partitions, over both edges.
async fn devices_resume(stack: &Stack) {
    let rooms = ["hall1", "hall2", "hall3", "hall4", "hall5", "hall6", "hall7", "hall8"];
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client_at("edge2", Format::MsgPack, "bob", "desk").await;
    for room in rooms {
        alice.send(room, &format!("{room}-1"), json!(1)).await;
        bob.join(room, json!("start")).await;
        alice.send(room, &format!("{room}-2"), json!(2)).await;
        bob.delivered_up_to(room, 2).await;
        bob.ack_delivered(room).await;
    }
    let cursor = bob.cursor(rooms[0]);
    bob.close().await;
    for room in rooms {
        alice.send(room, &format!("{room}-3"), json!(3)).await;
    }
    let mut bob = stack.client("bob", "desk").await;
    for room in rooms {
        let joined = bob.join(room, json!("saved")).await;
        assert_eq!((&joined["resume"], &joined["since"]["seq"]), (&json!("resumed"), &json!(2)), "{joined}");
        bob.delivered_up_to(room, 3).await;
        assert_eq!(bob.bodies(room), [json!(3)]);
        assert_eq!(stack.archived_when(room, 3).await.len(), 3);
    }
    let mut carol = stack.client_at("edge2", Format::Json, "carol", "desk").await;
    let joined = carol.join(rooms[0], cursor).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    carol.delivered_up_to(rooms[0], 3).await;
}

/// A channel is heard on every node.
async fn signals_reach_the_other_edge(stack: &Stack) {
    let mut alice = stack.client("alice", "phone").await;
    let mut bob = stack.client_at("edge2", Format::Json, "bob", "sofa").await;
    for room in ROOMS {
        alice.join(room, json!("now")).await;
        bob.join(room, json!("now")).await;
        alice.send_frame(&json!({ "type": "signal", "room": room, "body": { "typing": true } })).await;
        bob.expect_in("signal", room).await;
    }
}

async fn commands_work(stack: &Stack) {
    let tail = Process::spawn("millstream", &["tail", "--json"], stack.env());
    wait_until("it tails", async || tail.stderr().contains("tailing")).await;
    for room in ["a", "b", "c", "d", "e", "f"] {
        let sent = run(stack, &["publish", "--room", room, "--user", "op", "--json", "hello"]).await;
        assert_eq!(serde_json::from_str::<Value>(&sent).unwrap()["seq"], 1, "{sent}");
    }
    wait_until("tail shows all of them", async || tail.stdout().matches("\"hello\"").count() >= 6).await;
    run(stack, &["flush"]).await;
    let groups = eventually("the groups, with nothing behind", async || {
        let groups = run(stack, &["groups", "--json"]).await;
        (groups.contains("archive") && groups.contains("callback")).then_some(groups)
    })
    .await;
    assert!(groups.contains("replay"), "{groups}");
    run(stack, &["trim", "--before", "now"]).await;
    let replayed = run(stack, &["replay", "--to", "stdout", "--from", "-1h"]).await;
    assert!(replayed.matches("\"hello\"").count() >= 6, "{replayed}");
}
