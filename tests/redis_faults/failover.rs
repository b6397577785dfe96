//! A replica that is promoted without the last writes: nobody goes on as if nothing had happened.

use serde_json::{Value, json};

use crate::support::{
    API_KEY, Client, Format, Mode, Proxy, Receiver, Redis, Reply, Stack, post, wait_until, wait_until_eq,
};
use crate::world::{builder, join, wait_for_info};

const ROOM: &str = "chat";
/// Messages that the replica has, and those after them that only the master had.
const KEPT: u64 = 5;
const LOST: u64 = 3;

/// A master behind a proxy, and its replica behind another. The stack's own Redis is the replica,
/// which is what is left in the end.
struct Pair {
    stack: Stack,
    _master: Redis,
    clients: Proxy,
    replication: Proxy,
    alice: Client,
    bob: Client,
}

impl Pair {
    async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Both have the first messages, and Bob has seen them. `more`: settings.
    async fn start_with(more: &[(&str, &str)]) -> Self {
        let (master, replica) = tokio::join!(Redis::start(&[]), Redis::start(&[]));
        let (clients, replication) = (Proxy::start(master.addr()).await, Proxy::start(master.addr()).await);
        let (host, port) = replication.addr().split_once(':').unwrap();
        replica.command(["REPLICAOF", host, port]).await;
        wait_for_info(&replica, "replication", "master_link_status:up").await;
        let receiver = Receiver::start().await;
        let url = format!("redis://{}", clients.addr());
        let builder = builder(&receiver).redis(replica).redis_url(url);
        let stack = more.iter().fold(builder, |builder, (key, value)| builder.env(key, *value)).start().await;
        let mut alice = stack.client("alice", "phone").await;
        let mut bob = stack.client("bob", "desk").await;
        bob.join(ROOM, json!("start")).await;
        for n in 1..=KEPT {
            alice.send(ROOM, &format!("c-{n}"), json!(n)).await;
        }
        bob.delivered_up_to(ROOM, KEPT).await;
        stack.archived_when(ROOM, KEPT as usize).await;
        wait_until_eq("the replica has all", KEPT as usize, async || stack.logged(ROOM).await.len()).await;
        Self { stack, _master: master, clients, replication, alice, bob }
    }

    /// Messages that are acknowledged and don't reach the replica.
    async fn lose(&mut self) {
        self.replication.set(Mode::Down);
        for n in KEPT + 1..=KEPT + LOST {
            let sent = self.alice.send(ROOM, &format!("c-{n}"), json!(n)).await;
            assert_eq!(sent["seq"], n);
        }
        self.bob.delivered_up_to(ROOM, KEPT + LOST).await;
        assert_eq!(self.stack.logged(ROOM).await.len() as u64, KEPT, "the replica has what it had");
    }

    /// The master is gone for everybody, the replica takes its place.
    async fn fail_over(&self) {
        self.clients.set(Mode::Down);
        let promoted = self.stack.redis().command(["REPLICAOF", "NO", "ONE"]).await;
        assert!(!promoted.is_error(), "{promoted:?}");
        self.clients.retarget(self.stack.redis().addr());
        self.clients.set(Mode::Pass);
    }

    /// A room in another partition than these.
    fn room_apart(&self, others: &[&str]) -> String {
        let log = |room: &str| self.stack.key_of(room, "log");
        let apart = |room: &String| others.iter().all(|other| log(room) != log(other));
        (0..100).map(|n| format!("room-{n}")).find(apart).expect("a partition without these")
    }

    async fn send(&mut self, cid: &str) -> u64 {
        self.alice.send_until_sent(ROOM, cid, json!(cid)).await["seq"].as_u64().unwrap()
    }

    async fn join(&self, device: &str, cursor: &Value) -> (Client, Value) {
        let mut client = self.stack.client("carol", device).await;
        let joined = join(&self.stack, &mut client, ROOM, cursor).await;
        (client, joined)
    }
}

/// On Valkey 8, WAIT tells a connection that wrote nothing that every replica has everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_acknowledged_only_when_a_replica_has_the_message() {
    let (master, replica) = tokio::join!(Redis::start(&[]), Redis::start(&[]));
    replica.command(["REPLICAOF", "127.0.0.1", &master.port().to_string()]).await;
    wait_for_info(&replica, "replication", "master_link_status:up").await;
    let receiver = Receiver::start().await;
    let durability = ("MILLSTREAM__REDIS__DURABILITY", "replicated(1)");
    let stack = builder(&receiver).redis(master).env(durability.0, durability.1).start().await;
    let mut alice = stack.client("alice", "phone").await;
    alice.send(ROOM, "one", json!(1)).await;
    replica.freeze();
    let second = json!({ "type": "send", "room": ROOM, "cid": "two", "body": 2 });
    alice.send_frame(&second).await;
    alice.expect_error("unavailable").await;
    // It is stored by now. The other edge's connection has written nothing.
    let mut alice = stack.client_at("edge2", Format::Json, "alice", "phone").await;
    alice.send_frame(&second).await;
    alice.expect_error("unavailable").await;
    replica.thaw();
    let sent = alice.send_until_sent(ROOM, "two", json!(2)).await;
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(2), &json!(true)), "{sent}");
    stack.assert_no_panic();
}

/// The lost messages had not been archived: their numbers are taken again, by others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_the_last_writes_resumes_nobody_who_saw_them() {
    let mut pair = Pair::start().await;
    let kept = pair.bob.cursor(ROOM);
    pair.stack.kill9("archive");
    pair.lose().await;
    let lost = pair.bob.cursor(ROOM);
    pair.fail_over().await;
    pair.stack.start_again("archive").await;

    // Before anything new is written.
    let (_, joined) = pair.join("at-once", &lost).await;
    assert_eq!((&joined["resume"], &joined["reason"]), (&json!("reset"), &json!("forked")), "{joined}");
    // After the same numbers were taken again, and one more.
    for n in 1..=LOST + 1 {
        assert_eq!(pair.send(&format!("again-{n}")).await, KEPT + n);
    }
    let reset = pair.bob.expect_in("reset", ROOM).await;
    assert_eq!(reset["reason"], "forked", "{reset}");
    pair.bob.delivered_up_to(ROOM, KEPT + LOST + 1).await;
    let (_, joined) = pair.join("later", &lost).await;
    assert_eq!((&joined["resume"], &joined["reason"]), (&json!("reset"), &json!("forked")), "{joined}");
    // Whoever saw only what was kept goes on.
    let (client, joined) = pair.join("unharmed", &kept).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    assert_eq!(client.bodies(ROOM), ["again-1", "again-2", "again-3", "again-4"].map(Value::from));
    let all = (KEPT + LOST + 1) as usize;
    assert_eq!(pair.stack.archived_when(ROOM, all).await, pair.stack.logged(ROOM).await);
    pair.stack.assert_no_panic();
}

/// The lost messages had been archived: nothing is lost, and no number of theirs is given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_without_what_was_archived_goes_on_after_it() {
    let mut pair = Pair::start().await;
    let kept = pair.bob.cursor(ROOM);
    pair.lose().await;
    let seen = pair.bob.cursor(ROOM);
    pair.stack.archived_when(ROOM, (KEPT + LOST) as usize).await;
    pair.fail_over().await;

    assert_eq!(pair.send("after").await, KEPT + LOST + 1, "the number after the last that was archived");
    let (client, joined) = pair.join("one-who-saw-less", &kept).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    assert_eq!(client.bodies(ROOM), [json!(6), json!(7), json!(8), json!("after")]);
    let (_, joined) = pair.join("one-who-saw-all", &seen).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    let rows = pair.stack.archived_when(ROOM, (KEPT + LOST + 1) as usize).await;
    assert!(rows.iter().map(|(seq, _)| *seq).eq(1..=KEPT + LOST + 1), "{rows:?}");
    pair.stack.assert_all_run();
    pair.stack.assert_no_panic();
}

/// What is written first after the loss is that somebody joined. The event hid where the log had ended, and numbers
/// of what was archived were given again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_does_not_hide_what_a_replica_has_lost() {
    let mut pair = Pair::start().await;
    pair.lose().await;
    let seen = pair.bob.cursor(ROOM);
    pair.stack.archived_when(ROOM, (KEPT + LOST) as usize).await;
    // Who else looks: the archive worker, every second. It would hide what is tested.
    pair.stack.process("archive").signal("STOP");
    let kept = pair.stack.log(ROOM).await.len();
    pair.fail_over().await;
    let mut dave = pair.stack.client("dave", "phone").await;
    dave.send_frame(&json!({ "type": "join", "room": ROOM, "since": "now" })).await;
    let key = pair.stack.key_of(ROOM, "epoch");
    wait_until("the epoch is taken", async || pair.stack.redis().command(["GET", &key]).await == Reply::Nil).await;
    assert_eq!(pair.stack.log(ROOM).await.len(), kept, "nothing was written");
    pair.stack.process("archive").signal("CONT");

    assert_eq!(pair.send("after").await, KEPT + LOST + 1, "the number after the last that was archived");
    let (_, joined) = pair.join("one-who-saw-all", &seen).await;
    assert_eq!(joined["resume"], "resumed", "{joined}");
    pair.stack.assert_no_panic();
}

/// The same, from an edge that has stored what was lost and follows no room of the partition: nobody has read it there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_an_edge_that_has_only_stored_does_not_hide_what_a_replica_has_lost() {
    let pair = Pair::start().await;
    let room = pair.room_apart(&["@all", "@user:carol", "@user:dave"]);
    let mut carol = pair.stack.client_at("edge2", Format::Json, "carol", "desk").await;
    carol.send(&room, "kept", json!("kept")).await;
    wait_until_eq("the replica has it", 1, async || pair.stack.logged(&room).await.len()).await;
    pair.replication.set(Mode::Down);
    carol.send(&room, "lost", json!("lost")).await;
    pair.stack.archived_when(&room, 2).await;
    pair.stack.process("archive").signal("STOP");
    pair.stack.kill9("edge");
    let kept = pair.stack.log(&room).await.len();
    pair.fail_over().await;
    let mut dave = pair.stack.client_at("edge2", Format::Json, "dave", "phone").await;
    dave.send_frame(&json!({ "type": "join", "room": room, "since": "now" })).await;
    let key = pair.stack.key_of(&room, "epoch");
    wait_until("the epoch is taken", async || pair.stack.redis().command(["GET", &key]).await == Reply::Nil).await;
    assert_eq!(pair.stack.log(&room).await.len(), kept, "nothing was written");
    pair.stack.process("archive").signal("CONT");
    let sent = carol.send_until_sent(&room, "after", json!("after")).await;
    assert_eq!(sent["seq"], 3, "the number after the last that was archived");
    pair.stack.assert_no_panic();
}

/// The first who writes after the loss is an edge that has never written into that log: what it has
/// delivered is what it knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_has_only_read_what_was_lost_gives_no_number_again() {
    let mut pair = Pair::start().await;
    let mut carol = pair.stack.client_at("edge2", Format::Json, "carol", "desk").await;
    carol.join(ROOM, json!("start")).await;
    pair.lose().await;
    carol.delivered_up_to(ROOM, KEPT + LOST).await;
    let archived = pair.stack.archived_when(ROOM, (KEPT + LOST) as usize).await;
    pair.stack.kill9("edge");
    pair.fail_over().await;

    let sent = carol.send_until_sent(ROOM, "after", json!("after")).await;
    assert_eq!(sent["seq"], KEPT + LOST + 1, "the number after the last that was archived");
    carol.delivered_up_to(ROOM, KEPT + LOST + 1).await;
    let mut rows = pair.stack.archived_when(ROOM, archived.len() + 1).await;
    assert_eq!(rows.pop(), Some((KEPT + LOST + 1, "after".to_owned())));
    assert_eq!(rows, archived);
    pair.stack.assert_no_panic();
}

/// The first who writes after the loss has seen nothing of what was lost. The archive worker knows what it has archived,
/// and compared that with the log only when it took the partition over: here it keeps its lease.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_archived_is_missed_in_the_log_even_if_nobody_else_has_seen_it() {
    let mut pair = Pair::start_with(&[("MILLSTREAM__GROUP__LEASE_TTL", "120s")]).await;
    pair.stack.add("api", "api", &[]);
    pair.stack.process("api").ready().await;
    pair.lose().await;
    let mut archived = pair.stack.archived_when(ROOM, (KEPT + LOST) as usize).await;
    pair.stack.kill9("edge");
    pair.stack.kill9("edge2");
    let key = pair.stack.key_of(ROOM, "epoch");
    let epoch = pair.stack.redis().command(["GET", &key]).await.text();
    pair.fail_over().await;

    wait_until("the partition has been filled again", async || {
        let reply = pair.stack.redis().command(["GET", &key]).await;
        matches!(&reply, Reply::Bytes(_)) && reply.text() != epoch
    })
    .await;
    let message = json!({ "user": "caller", "cid": "after", "body": "after" }).to_string();
    let path = format!("/api/v1/rooms/{ROOM}/messages");
    let (status, answer) = post(pair.stack.addr("api"), &path, &[("x-api-key", API_KEY)], &message).await;
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &answer["seq"]), (200, &json!(KEPT + LOST + 1)), "{answer}");
    archived.push((KEPT + LOST + 1, "after".to_owned()));
    assert_eq!(pair.stack.archived_when(ROOM, archived.len()).await, archived);
    pair.stack.assert_no_panic();
}

/// An edge that sees a loss has the partition's epoch taken before its tail goes back to where the log ends now: the
/// other way round, the loss was forgotten if Redis refused to take it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_that_an_edge_has_noticed_is_not_forgotten_if_the_next_call_fails() {
    let mut pair = Pair::start().await;
    // Nobody but the edge looks.
    pair.stack.kill9("archive");
    pair.lose().await;
    let key = pair.stack.key_of(ROOM, "epoch");
    let redis = pair.stack.redis();
    assert!(!redis.command(["ACL", "SETUSER", "default", "-del"]).await.is_error());
    pair.fail_over().await;
    wait_until("Redis has refused to take the epoch", async || {
        let refused = redis.command(["ACL", "LOG"]).await.list();
        let is_del = |word: &Reply| *word == Reply::Bytes(b"del".to_vec());
        refused.into_iter().any(|refused| refused.list().iter().any(is_del))
    })
    .await;
    assert!(matches!(redis.command(["GET", &key]).await, Reply::Bytes(_)), "the epoch is still there");
    assert!(!redis.command(["ACL", "SETUSER", "default", "+del"]).await.is_error());
    wait_until("the epoch is taken", async || redis.command(["GET", &key]).await == Reply::Nil).await;
    pair.stack.assert_no_panic();
}
