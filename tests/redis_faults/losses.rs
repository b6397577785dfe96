//! What somebody removes from Redis: what was archived stays, numbers go on, and whoever had seen what
//! is gone is told.

use serde_json::{Value, json};

use crate::support::{Client, Receiver, Redis, Stack, wait_until};
use crate::world::{builder, join, logs};

const ROOM: &str = "chat";
/// Messages that reach the archive, and those after them that do not.
const ARCHIVED: u64 = 5;
const UNARCHIVED: u64 = 3;

/// A room whose last messages are in Redis alone, and Bob, who has seen all of them.
struct Loss {
    stack: Stack,
    receiver: Receiver,
    alice: Client,
    bob: Client,
}

impl Loss {
    async fn prepare() -> Self {
        let receiver = Receiver::start().await;
        let stack = builder(&receiver).edges(1).redis(Redis::start(&[]).await).start().await;
        let mut alice = stack.client("alice", "phone").await;
        let mut bob = stack.client("bob", "desk").await;
        bob.join(ROOM, json!("start")).await;
        for n in 1..=ARCHIVED {
            alice.send(ROOM, &format!("c-{n}"), json!(n)).await;
        }
        stack.archived_when(ROOM, ARCHIVED as usize).await;
        let mut loss = Self { stack, receiver, alice, bob };
        loss.bob.delivered_up_to(ROOM, ARCHIVED).await;
        loss
    }

    /// Messages that the archive never sees: it is dead.
    async fn unarchived(&mut self) {
        self.stack.kill9("archive");
        for n in ARCHIVED + 1..=ARCHIVED + UNARCHIVED {
            self.alice.send(ROOM, &format!("c-{n}"), json!(n)).await;
        }
        self.bob.delivered_up_to(ROOM, ARCHIVED + UNARCHIVED).await;
    }

    /// A new device that goes on after `cursor`; its `joined`.
    async fn join(&self, device: &str, cursor: Value) -> (Client, Value) {
        let mut client = self.stack.client("carol", device).await;
        let joined = join(&self.stack, &mut client, ROOM, &cursor).await;
        (client, joined)
    }

    /// No number is given twice, neither in the archive nor in the log.
    async fn assert_no_number_twice(&self) {
        for place in [self.stack.archived(ROOM).await, self.stack.logged(ROOM).await] {
            let mut seqs: Vec<u64> = place.iter().map(|(seq, _)| *seq).collect();
            seqs.dedup();
            assert_eq!(seqs.len(), place.len(), "{place:?}");
            assert!(seqs.is_sorted(), "{place:?}");
        }
    }
}

fn seq_of(sent: &Value) -> u64 {
    sent["seq"].as_u64().unwrap()
}

fn assert_forked(joined: &Value) {
    assert_eq!((&joined["resume"], &joined["reason"]), (&json!("reset"), &json!("forked")), "{joined}");
}

/// The numbers of the room are still there, its entries are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_log_is_served_from_the_archive_and_its_numbers_go_on() {
    let mut loss = Loss::prepare().await;
    let archived = loss.bob.cursor(ROOM);
    loss.unarchived().await;
    let seen = loss.bob.cursor(ROOM);
    assert_eq!(loss.stack.redis().command(["DEL", &loss.stack.key_of(ROOM, "log")]).await.int(), 1);
    loss.stack.start_again("archive").await;

    let sent = loss.alice.send_until_sent(ROOM, "c-after", json!("after")).await;
    assert_eq!(seq_of(&sent), ARCHIVED + UNARCHIVED + 1, "the number after the last that was given");
    loss.bob.delivered_up_to(ROOM, seq_of(&sent)).await;
    assert_eq!(loss.bob.bodies(ROOM).last(), Some(&json!("after")));
    // Bob has seen everything, and misses nothing.
    let (_, joined) = loss.join("of-bob", seen).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    // Whoever had not seen what is lost is told, by `joined` or by a `reset` later.
    for (device, since) in [("with-a-cursor", archived), ("without", json!("start"))] {
        let mut client = loss.stack.client("dave", device).await;
        let joined = join(&loss.stack, &mut client, ROOM, &since).await;
        if joined["resume"] != "reset" {
            client.expect_in("reset", ROOM).await;
        }
        client.delivered_up_to(ROOM, seq_of(&sent)).await;
        assert_eq!(client.bodies(ROOM).last(), Some(&json!("after")));
    }
    loss.stack.archived_when(ROOM, ARCHIVED as usize + 1).await;
    loss.assert_no_number_twice().await;
    loss.stack.assert_no_panic();
}

/// A log that is deleted under running workers owes the endpoint what it had not got: the archive has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_log_costs_an_endpoint_nothing_that_was_archived() {
    let mut loss = Loss::prepare().await;
    let bodies = |loss: &Loss| -> Vec<Value> {
        let callbacks = loss.receiver.accepted().into_iter().map(|callback| callback.json());
        callbacks.filter(|c| c["type"] == "message").map(|c| c["data"]["body"].clone()).collect()
    };
    wait_until("the endpoint has all", async || bodies(&loss).len() == ARCHIVED as usize).await;
    loss.stack.process("callback").kill9();
    for n in 6..=8 {
        loss.alice.send(ROOM, &format!("c-{n}"), json!(n)).await;
    }
    loss.stack.archived_when(ROOM, 8).await;
    for log in logs(&loss.stack) {
        loss.stack.redis().command(["DEL", &log]).await;
    }
    let sent = loss.alice.send_until_sent(ROOM, "c-9", json!(9)).await;
    assert_eq!(seq_of(&sent), 9);
    loss.stack.start_again("callback").await;
    wait_until("the endpoint has all", async || bodies(&loss).len() >= 9).await;
    let mut got: Vec<u64> = bodies(&loss).iter().map(|body| body.as_u64().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (1..=9).collect::<Vec<_>>());
    loss.bob.delivered_up_to(ROOM, 9).await;
    loss.stack.archived_when(ROOM, 9).await;
    loss.assert_no_number_twice().await;
    loss.stack.assert_no_panic();
}

/// Everything in Redis is gone at once, and everything had been archived: nobody misses anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_goes_on_where_the_archive_ends() {
    let mut loss = Loss::prepare().await;
    let seen = loss.bob.cursor(ROOM);
    for round in 1..=2 {
        loss.stack.redis().command(["FLUSHALL"]).await;
        let sent = loss.alice.send_until_sent(ROOM, &format!("c-after-{round}"), json!(round)).await;
        assert_eq!(seq_of(&sent), ARCHIVED + round, "the number after the last that was archived");
        loss.bob.delivered_up_to(ROOM, seq_of(&sent)).await;
        loss.stack.archived_when(ROOM, (ARCHIVED + round) as usize).await;
    }
    let (client, joined) = loss.join("of-bob", seen).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    assert_eq!(client.bodies(ROOM), [json!(1), json!(2)]);
    assert_eq!(loss.bob.account(ROOM).iter().filter(|e| e["type"] == "message").count() as u64, ARCHIVED + 2);
    loss.assert_no_number_twice().await;
    loss.stack.assert_all_run();
    loss.stack.assert_no_panic();
}

/// What had not been archived is gone with Redis: whoever saw it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_redis_tells_those_who_saw_what_is_lost() {
    let mut loss = Loss::prepare().await;
    let archived = loss.bob.cursor(ROOM);
    loss.unarchived().await;
    let lost = loss.bob.cursor(ROOM);
    loss.stack.redis().command(["FLUSHALL"]).await;
    loss.stack.start_again("archive").await;
    // More than were lost: their numbers are taken again, by others.
    for n in 1..=UNARCHIVED + 1 {
        let sent = loss.alice.send_until_sent(ROOM, &format!("c-again-{n}"), json!(format!("again {n}"))).await;
        assert_eq!(seq_of(&sent), ARCHIVED + n);
    }
    let reset = loss.bob.expect_in("reset", ROOM).await;
    assert_eq!(reset["reason"], "forked", "{reset}");
    let (_, joined) = loss.join("of-bob", lost).await;
    assert_forked(&joined);
    let (client, joined) = loss.join("of-one-who-saw-less", archived).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    assert_eq!(client.bodies(ROOM).len() as u64, UNARCHIVED + 1);
    loss.stack.archived_when(ROOM, (ARCHIVED + UNARCHIVED + 1) as usize).await;
    loss.assert_no_number_twice().await;
    loss.stack.assert_no_panic();
}
