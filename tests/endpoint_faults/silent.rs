//! Endpoints that aren't there, don't answer, or never come to an end.

use std::time::Duration;

use crate::endpoint::{Endpoint, How};
use crate::support::free_port;
use crate::world::{EACH, ROOMS, World, holds, holds_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_where_nobody_listens_gets_everything_once_somebody_does() {
    let addr = format!("127.0.0.1:{}", free_port());
    let mut world = World::start(&format!("http://{addr}/hook"), &[]).await;
    world.publish().await;
    world.fails("connect", 2).await;
    world.publish().await;
    let endpoint = Endpoint::start_at(&addr, How::Well).await;
    world.audit(|| endpoint.attempts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_never_answers_is_given_up_at_the_deadline() {
    holds(How::Never, "timeout").await;
}

/// Each byte comes in time; the answer as a whole doesn't, neither its body nor its head.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_of_a_byte_a_second_ends_at_the_deadline() {
    let second = Duration::from_secs(1);
    let body = How::Endlessly("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n".into(), "x".into(), second);
    let head = How::Endlessly("HTTP/1.1 200 OK\r\nx: ".into(), "x".into(), second);
    holds_all([body, head], "timeout").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interim_answers_without_an_end_end_at_the_deadline() {
    let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".to_owned();
    holds(How::Endlessly(String::new(), early, Duration::from_millis(1)), "timeout").await;
}

/// 2xx says that it is accepted; of the body 64 KiB are read, and then the connection is cut.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_body_without_an_end_only_the_beginning_is_read() {
    let (head, piece) = ("HTTP/1.1 200 OK\r\n\r\n".to_owned(), "x".repeat(16 << 10));
    let endpoint = Endpoint::start(How::Endlessly(head, piece, Duration::ZERO)).await;
    let mut world = World::start(&endpoint.url(), &[]).await;
    world.publish().await;
    world.fails("accepted", ROOMS * EACH).await;
    assert_eq!(endpoint.attempts().len() as u64, ROOMS * EACH, "each was accepted at once");
    // 64 KiB, and what the buffers of two sockets hold: nowhere near what would have fitted into the deadline.
    let each = endpoint.written() / (ROOMS * EACH);
    assert!(each <= 16 << 20, "{each} bytes of each answer were taken");
    world.unharmed().await;
}
