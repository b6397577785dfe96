//! Processes that may not open any more files.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use tokio::net::TcpStream;

use crate::support::{
    Client, Format, HandshakeRefused, Process, Receiver, Redis, Respond, Stack, eventually, get, token, wait_until,
};

/// Open files of an edge: room for clients, but not for many.
const FILES: u32 = 128;
/// More sockets than are left when all clients that fit are in, and few enough to wait where the system has those
/// who are not accepted yet.
const SILENT: usize = 60;

/// A connection of a user of its own, after `hello`; or how it was refused.
async fn newcomer(addr: &str, user: &str) -> Result<Client, HandshakeRefused> {
    let headers = [("sec-websocket-protocol", Format::Json.subprotocol())];
    let mut client = Client::try_connect(addr, &headers, Format::Json).await?;
    client.hello(&token(user, &[("*", "rw")]), "d").await;
    Ok(client)
}

/// Clients come until one is refused; those that are in.
async fn fill(addr: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    loop {
        match newcomer(addr, &format!("user{}", clients.len())).await {
            Ok(client) => clients.push(client),
            Err(refused) => {
                assert_eq!(refused.status, Some(503), "after {} clients", clients.len());
                return clients;
            }
        }
        assert!(clients.len() < FILES as usize, "more clients than files");
    }
}

/// Without a limit of its own an edge gave its last file to a client: nobody heard why they were not let in,
/// probes found it dead, and once its connections to Redis were lost, it could not make new ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_out_of_files_serves_those_it_has_and_reaches_redis_again() {
    let mut stack = Stack::builder().edges(0).redis(Redis::start(&[]).await).start().await;
    // Nobody is sent away because of silence, and who waits for Redis is not given up.
    let patient = [
        ("MILLSTREAM__EDGE__HELLO_TIMEOUT", "1h"),
        ("MILLSTREAM__EDGE__HEARTBEAT", "1h"),
        ("MILLSTREAM__EDGE__PUBLISH_RETRY", "20s"),
    ];
    stack.add_with_files("edge", "edge", &patient, FILES);
    stack.process("edge").ready().await;
    let addr = stack.addr("edge").to_owned();
    let mut alice = stack.client("alice", "phone").await;
    alice.join("chat", json!("start")).await;

    let mut clients = fill(&addr).await;
    assert!(clients.len() >= 32, "of {FILES} files only {} are for clients", clients.len());
    assert_eq!(get(&addr, "/livez", &[]).await.0, 200, "probes are answered beside all clients");
    assert_eq!(stack.metric("edge", "millstream_connections_max").await, clients.len() as f64 + 1.0);
    let refused = r#"millstream_handshakes_refused_total{reason="connections"}"#;
    assert_eq!(stack.metric("edge", refused).await, 1.0);

    // Those who say nothing have what is left, the others of them wait outside.
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&addr).await.unwrap());
    }
    wait_until("all places are taken", async || stack.metric("edge", "millstream_accept_waits_total").await >= 1.0)
        .await;
    alice.send_until_sent("chat", "c-1", json!(1)).await;

    stack.redis().kill9();
    stack.redis().start_again().await;
    alice.send_until_sent("chat", "c-2", json!(2)).await;
    let last = clients.len() - 1;
    clients[last].send_until_sent("chat", "c-3", json!(3)).await;
    alice.delivered_up_to("chat", 3).await;
    assert_eq!(alice.bodies("chat"), [json!(1), json!(2), json!(3)]);

    // Who leaves makes room.
    drop(silent);
    clients.truncate(last);
    let mut late = eventually("a place", async || newcomer(&addr, "late").await.ok()).await;
    late.join("chat", json!("start")).await;
    late.delivered_up_to("chat", 3).await;
    alice.send_until_sent("chat", "c-4", json!(4)).await;
    late.delivered_up_to("chat", 4).await;

    let log = stack.process("edge").stderr();
    let lines = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("Too many open files"), 0, "{log}");
    assert_eq!((lines("are let in; raise ulimit -n"), lines("refused a connection")), (1, 1), "{log}");
    assert!(lines("newcomers wait outside") >= 1, "{log}");
    stack.assert_no_panic();
    stack.assert_all_run();
}

/// With so few files not even one client could be served: that is said at once, and how many are needed.
#[tokio::test]
async fn an_edge_without_files_for_anybody_says_so_and_ends() {
    let stack = Stack::builder().edges(0).start().await;
    let edge = Process::spawn_with_files("edge", stack.env(), 64);
    let status = edge.status().await;
    let log = edge.stderr();
    assert!(!status.success() && log.contains("ulimit -n 73 is the least"), "{status}\n{log}");
    let mut stack = stack;
    stack.add_with_files("edge", "edge", &[], 73);
    stack.process("edge").ready().await;
    stack.client("alice", "phone").await.send("chat", "c-1", json!(1)).await;
}

/// Attempts that find no file are not the endpoint's doing: they are made again and use nothing up, so that
/// every endpoint gets everything, though they could never all be called at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callback_worker_out_of_files_gives_nothing_up() {
    // All at a time would need about 90 files: some attempts find none, and find one when others have ended.
    const ENDPOINTS: usize = 8;
    const ROOMS: usize = 8;
    let receiver = Receiver::start().await;
    // Longer than it takes to begin all the others.
    receiver.answer(|_| Respond::Late(Duration::from_millis(300)));
    let mut stack = Stack::builder().redis(Redis::start(&[]).await).start().await;
    let mut env: Vec<(String, String)> = vec![("MILLSTREAM__CALLBACK__MAX_RETRIES".into(), "0".into())];
    for n in 0..ENDPOINTS {
        let key = |key: &str| format!("MILLSTREAM__CALLBACK__ENDPOINTS__{n}__{key}");
        env.push((key("NAME"), format!("endpoint{n}")));
        env.push((key("URL"), format!("{}/{n}", receiver.url())));
        env.push((key("KINDS"), "message".into()));
        env.push((key("CONCURRENCY"), ROOMS.to_string()));
    }
    let env: Vec<(&str, &str)> = env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    stack.add_with_files("callback", "callback", &env, 64);
    stack.process("callback").ready().await;

    let mut alice = stack.client("alice", "phone").await;
    let send = async |alice: &mut Client, n: u64| {
        for room in 0..ROOMS {
            alice.send_until_sent(&format!("room{room}"), &format!("c-{room}-{n}"), json!(n)).await;
        }
    };
    send(&mut alice, 1).await;
    let ran_out = async || {
        let mut ours = 0.0;
        for n in 0..ENDPOINTS {
            let name = format!(r#"millstream_callback_attempts_total{{endpoint="endpoint{n}",outcome="ours"}}"#);
            ours += stack.metric("callback", &name).await;
        }
        ours >= 1.0
    };
    wait_until("an attempt finds no file", ran_out).await;
    let log = stack.process("callback").stderr();
    assert!(log.contains("0 are left for 64 attempts at the same time"), "it says so at its start: {log}");
    // It has to reach Redis again while its files are with endpoints.
    stack.redis().kill9();
    stack.redis().start_again().await;
    send(&mut alice, 2).await;

    wait_until("every endpoint has everything", async || {
        let taken = taken(&receiver);
        taken.len() == ENDPOINTS * ROOMS && taken.values().all(|seqs| seqs.len() == 2)
    })
    .await;
    assert!(taken(&receiver).values().all(|seqs| seqs == &[1, 2]), "in order: {:?}", taken(&receiver));
    stack.assert_no_panic();
    stack.assert_all_run();
}

/// What was accepted, by path and room: seqs, each once, in the order in which they were first accepted.
fn taken(receiver: &Receiver) -> BTreeMap<(String, String), Vec<u64>> {
    let mut taken: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for callback in receiver.seen() {
        let data = callback.json()["data"].take();
        let seqs = taken.entry((callback.path.clone(), data["room"].as_str().unwrap().to_owned())).or_default();
        let seq = data["seq"].as_u64().unwrap();
        if !seqs.contains(&seq) {
            seqs.push(seq);
        }
    }
    taken
}
