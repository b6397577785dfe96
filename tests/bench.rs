//! `millstream bench`: what it counts is what happened; and docs/performance.md: what it says can be typed.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "performance/document.rs"]
mod document;
mod support;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use support::{Process, Stack, eventually, millstream, unique};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

async fn unlimited() -> Stack {
    Stack::builder()
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .env("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "0")
        .start()
        .await
}

/// The arguments of a load on this edge, with a result in JSON and names of its own.
fn load(args: &str, addr: &str) -> Vec<String> {
    let target = format!("--json --url ws://{addr} --prefix {}", unique("b"));
    ["bench"].into_iter().chain(args.split(' ')).chain(target.split(' ')).map(str::to_owned).collect()
}

async fn bench(args: &str, addr: &str, env: &[(String, String)]) -> (bool, Value) {
    let args = load(args, addr);
    let said = millstream(&args.iter().map(String::as_str).collect::<Vec<_>>(), env).await;
    let report = said.out.lines().next().unwrap_or_else(|| panic!("{}", said.err));
    (said.code == Some(0), serde_json::from_str(report).unwrap())
}

/// A right system: everything that was accepted is delivered, and the figures agree with each other.
#[tokio::test]
async fn a_fan_out_counts_what_came() {
    let stack = unlimited().await;
    for pace in ["--rate 200", "--in-flight 8"] {
        let args = format!("fan-out --rooms 3 --subscribers 4 --publishers 2 --duration 1s --warm-up 0s {pace}");
        let (right, report) = bench(&args, stack.addr("edge"), stack.env()).await;
        assert!(right, "{report}");
        let of = |name: &str| report[name].as_u64().unwrap();
        assert_eq!(of("connections"), 3 * 4 + 3 * 2);
        assert!(of("accepted") > 0 && of("delivered") > 0, "{report}");
        assert_eq!(of("accepted"), report["send_latency"]["count"].as_u64().unwrap());
        assert_eq!(of("delivered"), report["delivery_latency"]["count"].as_u64().unwrap());
        for bad in ["lost", "duplicates", "out_of_order", "resets", "disconnected"] {
            assert_eq!(of(bad), 0, "{bad}: {report}");
        }
    }
    let (right, report) =
        bench("ingest --connections 3 --duration 1s --warm-up 0s", stack.addr("edge"), stack.env()).await;
    assert!(right && report["accepted"].as_u64().unwrap() > 0, "{report}");
}

/// What was published once is read by every client, from the log and again with --keep.
#[tokio::test]
async fn a_catch_up_reads_everything() {
    let stack = unlimited().await;
    let prefix = unique("missed");
    for keep in ["", " --keep"] {
        let args = format!("bench catch-up --clients 6 --rooms 3 --messages 300 --json --prefix {prefix}{keep}");
        let url = format!("ws://{}", stack.addr("edge"));
        let args: Vec<&str> = args.split(' ').chain(["--url", &url]).collect();
        let report = millstream(&args, stack.env()).await.ok().json();
        assert_eq!(report["catch_up_latency"]["count"], 6, "{report}");
        assert_eq!((&report["lost"], &report["duplicates"]), (&json!(0), &json!(0)), "{report}");
    }
}

#[tokio::test]
async fn connections_are_made_and_held() {
    let stack = unlimited().await;
    let (right, report) =
        bench("connect --connections 50 --rooms 10 --hold 100ms", stack.addr("edge"), stack.env()).await;
    assert!(right, "{report}");
    assert_eq!(report["live_latency"]["count"], 50, "{report}");
    assert_eq!(report["disconnected"], 0, "{report}");
}

/// All connections are lost with their edge and come back with all of their rooms.
#[tokio::test]
async fn a_storm_is_survived() {
    let mut stack = unlimited().await;
    let args = load("storm --connections 20 --rooms 3", stack.addr("edge"));
    let storm = Process::spawn("millstream", &args.iter().map(String::as_str).collect::<Vec<_>>(), stack.env());
    eventually("the storm is ready", async || storm.stderr().contains("restart the edge").then_some(())).await;
    stack.kill9("edge");
    stack.start_again("edge").await;
    assert!(storm.status().await.success(), "{}", storm.stderr());
    let report: Value = serde_json::from_str(&storm.stdout()).unwrap();
    assert_eq!(report["live_latency"]["count"], 20, "{report}");
}

/// What docs/performance.md tells people to type is right, but for its size.
#[tokio::test]
async fn the_guides_examples_run() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")).unwrap();
    let examples: Vec<&str> = guide.lines().filter_map(|line| line.strip_prefix("millstream bench ")).collect();
    for load in ["fan-out", "ingest", "connect", "catch-up", "storm"] {
        assert!(examples.iter().any(|example| example.starts_with(load)), "no example of {load} in {examples:?}");
    }
    let stack = unlimited().await;
    let (url, prefix) = (format!("ws://{}", stack.addr("edge")), unique("guide"));
    for example in examples {
        let small = smaller(example);
        let args: Vec<&str> = ["bench"].into_iter().chain(small.iter().map(String::as_str)).collect();
        let own = if example.contains("--prefix") { vec![] } else { vec!["--prefix", &prefix] };
        let args = [&args[..], &["--json", "--url", &url], &own].concat();
        if example.starts_with("storm") {
            // It waits for a restart, which has a test of its own: it is enough that it has begun.
            let storm = Process::spawn("millstream", &args, stack.env());
            eventually("the storm is ready", async || storm.stderr().contains("restart the edge").then_some(())).await;
        } else {
            let report = millstream(&args, stack.env()).await.ok().json();
            assert!(report.as_object().is_some_and(|report| report.len() > 3), "{example}: {report}");
        }
    }
}

/// An example with numbers for a test.
fn smaller(example: &str) -> Vec<String> {
    let mut option = "";
    let mut small = Vec::new();
    for word in example.split(' ') {
        let number = match option {
            "--rooms" | "--subscribers" | "--clients" => "3",
            "--connections" | "--messages" => "20",
            "--rate" => "100",
            "--duration" => "1s",
            "--hold" => "100ms",
            _ => word,
        };
        small.push(number.to_owned());
        option = word;
    }
    small
}

/// The figures of a run take the places of their rows, and of no others.
#[test]
fn figures_are_written_between_their_marks() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/performance.md")).unwrap();
    let row = |name: &str, ours: u32| format!("| {name} | {ours} /s | 9 | 1 | ≥ 1 | yes | today |");
    let write = |guide: &str, rows: &[String], all| document::with(guide, "Machine: this one.", rows, all).unwrap();
    let first = write(&guide, &[row("a", 1), row("b", 1)], true);
    assert_eq!(write(&first, &[row("a", 1), row("b", 1)], true), first, "once more is no change");
    let second = write(&first, &[row("c", 2), row("a", 2)], false);
    let table = [row("a", 2), row("b", 1), row("c", 2)].join("\n");
    assert!(second.contains(&format!("---|\n{table}\n\n<!--")), "{second}");
    assert_eq!(second.matches("Machine: this one.").count(), 1);
    let third = write(&second, &[row("b", 3)], true);
    assert_eq!(third.lines().filter(|line| line.ends_with("| today |")).count(), 1, "{third}");
    let outside = |text: &str| {
        let (before, rest) = text.split_once("<!-- figures").unwrap();
        (before.to_owned(), rest.split_once("<!-- end of figures").unwrap().1.to_owned())
    };
    assert_eq!(outside(&third), outside(&guide), "the rest of the document stays");
    assert!(document::with("no marks", "", &[], true).is_err());
}

/// An edge that keeps no promise: of ten messages the fourth is lost, the sixth comes twice, and the last two change
/// places. It is no stand-in for ours; it is what the counting is measured with.
#[tokio::test]
async fn a_bad_edge_is_found_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (to_subscriber, mut of_publisher) = tokio::sync::mpsc::unbounded_channel::<String>();
        let (publisher, _) = listener.accept().await.unwrap();
        tokio::spawn(publish(publisher, to_subscriber));
        let (subscriber, _) = listener.accept().await.unwrap();
        let mut socket = greeted(subscriber).await;
        let mut held = None;
        let mut count = 0;
        while let Some(body) = of_publisher.recv().await {
            count += 1;
            let frame = format!(r#"{{"type":"message","room":"r","body":{body}}}"#);
            let frames = match count {
                4 => vec![],
                6 => vec![frame.clone(), frame],
                9 => {
                    held = Some(frame);
                    vec![]
                }
                10 => vec![frame, held.take().unwrap()],
                _ => vec![frame],
            };
            for frame in frames {
                socket.send(Message::text(frame)).await.unwrap();
            }
        }
        std::future::pending::<()>().await;
    });
    let env = [("MILLSTREAM__AUTH__HS256_SECRET".to_owned(), support::SECRET.to_owned())];
    let args = "fan-out --rooms 1 --subscribers 1 --rate 10 --duration 1s --warm-up 0s";
    let (right, report) = bench(args, &addr, &env).await;
    assert!(!right, "{report}");
    let counts = ["accepted", "lost", "duplicates", "out_of_order"].map(|name| report[name].as_u64().unwrap());
    assert_eq!(counts[1..], [1, 1, 1], "{report}");
}

/// Welcomes a client, and says that its room is live if it joins one.
async fn greeted(stream: TcpStream) -> tokio_tungstenite::WebSocketStream<TcpStream> {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::text(r#"{"type":"welcome"}"#)).await.unwrap();
    let Some(Ok(Message::Text(join))) = socket.next().await else { return socket };
    let join: Value = serde_json::from_str(&join).unwrap();
    for kind in ["joined", "live"] {
        socket.send(Message::text(json!({ "type": kind, "room": join["room"] }).to_string())).await.unwrap();
    }
    socket
}

/// Accepts everything and hands the bodies on.
async fn publish(stream: TcpStream, bodies: tokio::sync::mpsc::UnboundedSender<String>) {
    let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
    socket.next().await.unwrap().unwrap();
    socket.send(Message::text(r#"{"type":"welcome"}"#)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let send: Value = serde_json::from_str(&text).unwrap();
        let sent = format!(r#"{{"type":"sent","ref":{},"room":"r"}}"#, send["ref"]);
        bodies.send(send["body"].to_string()).unwrap();
        if socket.send(Message::text(sent)).await.is_err() {
            break;
        }
    }
}
