//! What endpoints may answer, and what comes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};

use super::server::{Reply, Server, ok, status};
use super::*;

#[tokio::test]
async fn a_callback_is_signed_as_standard_webhooks_says() {
    let server = Server::start(|_| ok()).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    let mut replayed = message("b", 2);
    replayed.replay_of = Some(EntryId::new(1_600_000_000_000, 7));
    bench.give(vec![message("a", 1)]).await;
    bench.all_done([1]).await;
    bench.give(vec![replayed]).await;
    bench.all_done([2]).await;
    let seen = server.seen();
    let request = &seen[0];
    assert_eq!(request.header("webhook-id"), "msg_3_1700000000000-1");
    assert_eq!(request.header("content-type"), "application/json");
    assert!(request.header("user-agent").starts_with("millstream/"));
    assert_eq!(request.header("millstream-replay"), "");
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&STANDARD.decode(&SECRET[6..]).unwrap()).unwrap();
    let (id, at) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    mac.update(format!("{id}.{at}.{}", String::from_utf8(request.body.clone()).unwrap()).as_bytes());
    assert_eq!(request.header("webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
    // A replayed item goes by its original id, and says that it is one.
    assert_eq!(seen[1].header("webhook-id"), "msg_3_1600000000000-7");
    assert_eq!(seen[1].header("millstream-replay"), "true");
}

#[tokio::test]
async fn every_attempt_has_the_same_bytes_and_id_until_the_item_is_parked() {
    let server = Server::start(|request| if request.what().1 == 1 { status(500) } else { ok() }).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give(vec![message("a", 1), message("a", 2)]).await;
    let (reason, error) = bench.parked(1).await;
    assert_eq!((reason, error.as_str()), ("attempts_exhausted", "attempt 4 failed and was the last: HTTP 500"));
    bench.all_done([2]).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 5, "max_retries counts what follows the first attempt");
    for request in &seen[..4] {
        assert_eq!(request.body, seen[0].body);
        assert_eq!(request.header("webhook-id"), seen[0].header("webhook-id"));
    }
}

#[tokio::test]
async fn redirects_are_failures_and_not_followed() {
    let server = Server::start(|_| Reply::Status(307, "location: /elsewhere\r\n".into())).await;
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(1), ..endpoint(&server.url()) });
    bench.give(vec![message("a", 1)]).await;
    assert!(bench.parked(1).await.1.contains("HTTP 307"));
    assert_eq!(server.seen().iter().map(|r| r.path.as_str()).collect::<Vec<_>>(), ["/hook", "/hook"]);
}

#[tokio::test]
async fn retry_after_holds_every_room_of_the_endpoint() {
    let asked = AtomicBool::new(false);
    let server = Server::start(move |_| match asked.swap(true, Ordering::SeqCst) {
        false => Reply::Status(429, "retry-after: 1\r\n".into()),
        true => ok(),
    })
    .await;
    let mut bench = Bench::new(EndpointSettings { concurrency: 1, ..endpoint(&server.url()) });
    bench.give(vec![message("a", 1), message("b", 2), message("c", 3)]).await;
    bench.all_done(1..=3).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 4);
    for request in &seen[1..] {
        assert!(request.at - seen[0].at >= Duration::from_secs(1), "undercut: {:?}", request.at - seen[0].at);
    }
}

#[tokio::test]
async fn gone_pauses_the_endpoint_and_costs_no_attempt() {
    let gone = Arc::new(AtomicBool::new(true));
    let still = gone.clone();
    let server = Server::start(move |_| status(if still.load(Ordering::SeqCst) { 410 } else { 200 })).await;
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(0), concurrency: 1, ..endpoint(&server.url()) });
    bench.give(vec![message("a", 1), message("b", 2)]).await;
    let unsaved = tokio::time::timeout(DEADLINE, bench.dispatcher.gate.unsaved()).await.unwrap();
    assert!(unsaved.pause);
    assert_eq!((server.seen().len(), bench.settled_now()), (1, 0));
    gone.store(false, Ordering::SeqCst);
    bench.dispatcher.gate.saved(unsaved);
    bench.dispatcher.gate.apply(false, None);
    bench.all_done([1, 2]).await;
}

#[tokio::test]
async fn an_endpoint_that_hangs_fails_at_the_deadline() {
    let server = Server::start(|request| match request.what().1 {
        1 => Reply::Hang,
        // The head comes at once, the body never ends.
        _ => Reply::Endless(1, Duration::from_millis(10)),
    })
    .await;
    let settings = EndpointSettings { max_retries: Some(0), ..endpoint(&server.url()) };
    let mut bench = Bench::new(EndpointSettings { timeout: Some(Span::millis(300)), ..settings });
    bench.give(vec![message("a", 1), message("b", 2)]).await;
    for n in [1, 2] {
        assert!(bench.parked(n).await.1.contains("no complete answer in 300ms"));
    }
}

#[tokio::test]
async fn at_most_64_kib_of_an_answer_are_read() {
    let server = Server::start(|_| Reply::Endless(16 << 10, Duration::from_millis(1))).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give(vec![message("a", 1)]).await;
    bench.all_done([1]).await;
    // What the sockets' buffers took beside it is not ours; without a limit it would never end.
    assert!(server.sent() < 16 << 20, "{} bytes were taken", server.sent());
}

#[tokio::test]
async fn answers_that_are_not_http_are_failures() {
    let huge = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'x'; 10 << 20], b"\r\n\r\n".to_vec()].concat();
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(100_000));
    let replies = [
        huge,
        many.into_bytes(),
        b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(),
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut off".to_vec(),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab".to_vec(),
    ];
    let count = replies.len() as u64;
    let server =
        Server::start(move |request| Reply::Raw(replies[usize::try_from(request.what().1).unwrap() - 1].clone())).await;
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(0), ..endpoint(&server.url()) });
    bench.give((1..=count).map(|n| message(&format!("room{n}"), n)).collect()).await;
    for n in 1..=count {
        assert_eq!(bench.parked(n).await.0, "attempts_exhausted", "entry {n}");
    }
}

#[tokio::test]
async fn every_2xx_is_a_success() {
    let server = Server::start(|request| status([200, 201, 202, 204][request.what().1 as usize - 1])).await;
    let mut bench = Bench::new(endpoint(&server.url()));
    bench.give((1..=4).map(|n| message("a", n)).collect()).await;
    bench.all_done(1..=4).await;
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn private_addresses_are_refused_before_a_connection_is_made() {
    let server = Server::start(|_| ok()).await;
    for host in ["127.0.0.1", "localhost", "[::1]", "2130706433"] {
        let settings = EndpointSettings { max_retries: Some(0), ..endpoint(&server.url_of(host)) };
        let mut bench = Bench::new(EndpointSettings { allow_private: Some(false), ..settings });
        bench.give(vec![message("a", 1)]).await;
        let error = bench.parked(1).await.1;
        assert!(error.contains("its address is private"), "{host}: {error}");
    }
    assert!(server.seen().is_empty());
    let mut allowed = Bench::new(endpoint(&server.url_of("localhost")));
    allowed.give(vec![message("a", 1)]).await;
    allowed.all_done([1]).await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_a_failure_of_its_own() {
    let url = {
        let server = Server::start(|_| ok()).await;
        server.url()
    };
    let mut bench = Bench::new(EndpointSettings { max_retries: Some(1), ..endpoint(&url) });
    bench.give(vec![message("a", 1)]).await;
    let (reason, error) = bench.parked(1).await;
    assert_eq!(reason, "attempts_exhausted");
    assert!(error.starts_with("attempt 2 failed") && !error.contains("/hook"), "{error}");
}

#[tokio::test]
async fn an_item_older_than_max_age_is_given_up() {
    let server = Server::start(|_| ok()).await;
    let mut bench = Bench::new(EndpointSettings { max_age: Some(Span::secs(3_600)), ..endpoint(&server.url()) });
    bench.give(vec![message("a", 1)]).await;
    assert_eq!(bench.parked(1).await.0, "too_old");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn an_open_breaker_saves_attempts_and_closes_when_the_endpoint_is_back() {
    let (works, while_open) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let now_works = works.clone();
    let server = Server::start(move |_| status(if works.load(Ordering::SeqCst) { 200 } else { 503 })).await;
    // The breaker stays open for 2 s; thirty rooms would make hundreds of attempts in that time.
    let mut bench = Bench::new(EndpointSettings {
        max_retries: Some(1),
        retry_delay: Some(Span::secs(2)),
        concurrency: 1,
        ..endpoint(&server.url())
    });
    bench.give((1..=30).map(|n| message(&format!("room{n}"), n)).collect()).await;
    server.saw(10).await;
    while_open.store(server.seen().len(), Ordering::SeqCst);
    now_works.store(true, Ordering::SeqCst);
    bench.all_done(1..=30).await;
    let seen = server.seen();
    assert_eq!(seen.len(), 40, "ten failures, and then each once");
    assert!(seen[10].at - seen[9].at >= Duration::from_secs(2), "{:?}", seen[10].at - seen[9].at);
}
