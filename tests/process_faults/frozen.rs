//! A process that is frozen is taken for dead; it comes back as a zombie that believes to be alive.

use serde_json::json;

use crate::support::{
    Format, Mode, Proxy, ROOMS, Receiver, Redis, Respond, Stack, StackBuilder, Traffic, get, readers, wait_until,
};

/// Messages that have to be accepted before, during and after.
const BETWEEN: u64 = 60;

/// Short leases: a successor takes over within the test's patience.
fn builder() -> StackBuilder {
    Stack::builder()
        .env("MILLSTREAM__GROUP__LEASE_TTL", "2s")
        .env("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms")
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
}

/// Waits until `name` owns `count` partitions in the group.
async fn owns(stack: &Stack, name: &str, group: &str, count: f64) {
    let metric = format!("millstream_group_partitions{{group=\"{group}\"}}");
    wait_until(&format!("{name} owns {count} of {group}"), async || stack.metric(name, &metric).await == count).await;
}

/// Asserts that `name` lost partitions in the group without having handed them over.
async fn has_lost_leases(stack: &Stack, name: &str, group: &str) {
    let metric = format!("millstream_group_leases_lost_total{{group=\"{group}\"}}");
    wait_until(&format!("{name} has noticed"), async || stack.metric(name, &metric).await >= 1.0).await;
}

/// It holds rows that are not written when it freezes, and finds their time come when it wakes up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_archive_worker_that_wakes_up_after_its_lease_writes_nothing_twice() {
    let mut stack = builder().edges(2).env("MILLSTREAM__ARCHIVE__MAX_DELAY", "1500ms").start().await;
    stack.add("archive2", "archive", &[]);
    stack.process("archive2").ready().await;
    owns(&stack, "archive", "archive", 2.0).await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    traffic.goes_on(BETWEEN).await;
    stack.process("archive").signal("STOP");
    owns(&stack, "archive2", "archive", 4.0).await;
    traffic.goes_on(BETWEEN).await;
    stack.process("archive").signal("CONT");
    has_lost_leases(&stack, "archive", "archive").await;
    // It is a worker like any other again.
    owns(&stack, "archive", "archive", 2.0).await;
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, None).await;
}

/// It freezes with attempts under way and items that wait behind them. Only an attempt under way may
/// come twice, under the same id.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_worker_that_wakes_up_after_its_lease_keeps_the_order() {
    let receiver = Receiver::start().await;
    receiver.answer(|_| Respond::Late(std::time::Duration::from_millis(20)));
    let mut stack = builder().edges(2).data_callback(&receiver.url()).start().await;
    stack.add("callback2", "callback", &[]);
    stack.process("callback2").ready().await;
    owns(&stack, "callback", "callback:data", 2.0).await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    traffic.goes_on(BETWEEN).await;
    stack.process("callback").signal("STOP");
    owns(&stack, "callback2", "callback:data", 4.0).await;
    traffic.goes_on(BETWEEN).await;
    stack.process("callback").signal("CONT");
    has_lost_leases(&stack, "callback", "callback:data").await;
    owns(&stack, "callback", "callback:data", 2.0).await;
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
    // An attempt that was under way when the worker froze was repeated by its successor; nothing else was.
    let seen = receiver.seen();
    let repeated = seen.len() - receiver.accepted().len();
    assert!(repeated <= ROOMS.len() * 2, "{repeated} of {} attempts were repeats", seen.len());
}

/// Requests that a frozen worker has taken are answered by its successor, once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_join_is_answered_though_the_replay_worker_that_has_it_froze() {
    let mut stack = builder().start().await;
    let mut alice = stack.client("alice", "phone").await;
    for n in 0..20 {
        for room in ROOMS {
            alice.send(room, &format!("{room}-{n}"), json!(n)).await;
        }
    }
    stack.add("replay2", "replay", &[]);
    stack.process("replay2").ready().await;
    owns(&stack, "replay", "replay", 2.0).await;
    stack.process("replay").signal("STOP");
    let mut bob = stack.client("bob", "desk").await;
    for room in ROOMS {
        bob.join(room, json!("start")).await;
        bob.delivered_up_to(room, 20).await;
    }
    owns(&stack, "replay2", "replay", 4.0).await;
    stack.process("replay").signal("CONT");
    has_lost_leases(&stack, "replay", "replay").await;
    // What the zombie still had to say came too late for anybody; the client checks that nothing comes twice.
    for room in ROOMS {
        alice.send(room, &format!("{room}-last"), json!("last")).await;
        bob.delivered_up_to(room, 21).await;
        assert_eq!(bob.bodies(room).len(), 21);
    }
}

/// Its sign of life runs out, its devices go elsewhere; what they had sent to it meanwhile is in its
/// sockets when it wakes up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_wakes_up_after_it_was_taken_for_dead_loses_and_doubles_nothing() {
    let receiver = Receiver::start().await;
    let stack = builder().edges(2).data_callback(&receiver.url()).start().await;
    let traffic = Traffic::start(&stack, &["edge", "edge2"]);
    let readers = readers(&stack, &["edge", "edge2"]);
    // One who stays whatever happens.
    let mut patient = stack.client_at("edge2", Format::Json, "patient", "d").await;
    patient.join("aside", json!("start")).await;
    traffic.goes_on(BETWEEN).await;

    let alive = format!("{}:edge:*:alive", stack.prefix);
    let edges_alive = async || stack.redis().command(["KEYS", &alive]).await.list().len();
    assert_eq!(edges_alive().await, 2);
    stack.process("edge2").signal("STOP");
    patient.send_frame(&json!({ "type": "send", "room": "aside", "cid": "late", "body": 1 })).await;
    wait_until("the edge is taken for dead", async || edges_alive().await == 1).await;
    traffic.goes_on(BETWEEN).await;
    stack.process("edge2").signal("CONT");
    wait_until("the edge is back", async || edges_alive().await == 2).await;
    // Its device has gone nowhere else: it is served as if nothing had been.
    patient.delivered_up_to("aside", 1).await;
    assert_eq!(patient.expect("sent").await["cid"], "late");
    traffic.goes_on(BETWEEN).await;
    traffic.audit(&stack, readers, Some(&receiver)).await;
}

/// A device sent something to an edge that was frozen, gave it up, and sent it again elsewhere, where it
/// went on for longer than cids are remembered. What lies in the sockets of the frozen edge comes too late
/// to be known for a repeat: an edge that was frozen must ask whether the device is still its own.
#[tokio::test]
async fn what_an_edge_finds_in_its_sockets_when_it_wakes_up_is_not_stored_again() {
    let stack = builder().edges(2).start().await;
    let mut old = stack.client_at("edge2", Format::Json, "alice", "phone").await;
    stack.process("edge2").signal("STOP");
    old.send_frame(&json!({ "type": "send", "room": "chat", "cid": "c-1", "body": 1 })).await;
    let mut new = stack.client_at("edge", Format::Json, "alice", "phone").await;
    for n in 1..=130 {
        new.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    stack.process("edge2").signal("CONT");
    let (code, _) = old.closed().await;
    assert_eq!(code, 4504, "the newer connection stays");
    new.send("chat", "c-131", json!(131)).await;
    let expected: Vec<(u64, String)> = (1..=131).map(|n| (n, format!("c-{n}"))).collect();
    assert_eq!(stack.logged("chat").await, expected);
}

/// An edge holds a send that it could not write yet, and freezes. The device sends it again elsewhere, where
/// it goes on for longer than cids are remembered. Cause: whoever had a send in hand wrote it whenever it
/// could, whoever had the device by then; the script must refuse what an older connection still has to say.
#[tokio::test]
async fn what_an_edge_had_not_written_when_it_froze_is_not_stored_again() {
    let redis = Redis::start(&[]).await;
    let proxy = Proxy::start(redis.addr()).await;
    let mut stack = builder().edges(1).redis(redis).start().await;
    let url = format!("redis://{}", proxy.addr());
    stack.add("cut", "edge", &[("REDIS_URL", &url), ("MILLSTREAM__EDGE__PUBLISH_RETRY", "10m")]);
    stack.process("cut").ready().await;
    let mut old = stack.client_at("cut", Format::Json, "alice", "phone").await;
    old.send("chat", "c-0", json!(0)).await;
    proxy.set(Mode::Blackhole);
    old.send_frame(&json!({ "type": "send", "room": "chat", "cid": "c-1", "body": 1 })).await;
    let retries = "millstream_publish_retries_total{kind=\"RedisUnavailable\"}";
    wait_until("the edge tries to write it", async || stack.metric("cut", retries).await >= 1.0).await;
    stack.process("cut").signal("STOP");
    // What is on its way is lost: only the edge itself still has the send.
    proxy.set(Mode::Down);
    let mut new = stack.client_at("edge", Format::Json, "alice", "phone").await;
    for n in 1..=130 {
        new.send("chat", &format!("c-{n}"), json!(n)).await;
    }
    proxy.set(Mode::Pass);
    stack.process("cut").signal("CONT");
    wait_until("the edge is back", async || get(stack.addr("cut"), "/readyz", &[]).await.0 == 200).await;
    // It writes in the order in which it was given: when this is answered, it has done with what it held.
    let mut other = stack.client_at("cut", Format::Json, "bob", "desk").await;
    other.send_until_sent("chat", "last", json!("last")).await;
    let cids = (0..=130).map(|n| format!("c-{n}")).chain(["last".to_owned()]);
    assert_eq!(stack.logged("chat").await, (1..).zip(cids).collect::<Vec<_>>());
}
