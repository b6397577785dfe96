//! Endpoints that answer, and wrongly.

use crate::certificate::Certificate;
use crate::endpoint::{Endpoint, How};
use crate::support::Receiver;
use crate::world::{EACH, ROOMS, World, holds, holds_all};

fn with(answer: impl Into<String>) -> How {
    How::With(answer.into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_fails_gets_everything_once_it_does_not() {
    holds(with("HTTP/1.1 500 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "error").await;
}

/// The item was taken over and nobody heard so: it comes again, under the same id, for the endpoint to see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_whose_answer_was_reset_comes_again_under_its_id() {
    holds(How::Reset, "broken").await;
}

/// Where a redirect points to, above all on a private address, is nobody whom the operator has chosen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_a_private_address_is_a_failure_and_not_followed() {
    let inside = Receiver::start().await;
    let answer =
        format!("HTTP/1.1 301 x\r\nlocation: {}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", inside.url());
    holds(with(answer), "redirect").await;
    assert!(inside.seen().is_empty(), "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_of_headers_are_a_failure_and_no_memory() {
    let line = format!("x-filler: {}\r\n", "x".repeat(64 << 10));
    let answer = format!("HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n", line.repeat(160));
    holds(with(answer), "broken").await;
}

/// Chunks that are none, a body that is shorter than announced, and no HTTP at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_makes_no_sense_is_a_failure() {
    let senseless = [
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
        "SSH-2.0-x\r\n",
    ];
    holds_all(senseless.map(with), "broken").await;
}

/// HTTP/1.0 ends an answer by ending the connection; that is as good as any.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_of_http_1_0_is_an_endpoint() {
    let endpoint = Endpoint::start(with("HTTP/1.0 200 OK\r\n\r\nfine")).await;
    let mut world = World::start(&endpoint.url(), &[]).await;
    world.publish().await;
    world.fails("accepted", ROOMS * EACH).await;
    assert_eq!(endpoint.attempts().len() as u64, ROOMS * EACH);
    world.unharmed().await;
}

/// Neither a certificate that nobody has signed, nor one of somebody else, nor a server without TLS gets a
/// byte of an item; the right one then gets all of them.
async fn bad_tls(how: How) {
    let endpoint = Endpoint::start(how).await;
    let mut world = World::start(&endpoint.url(), &[]).await;
    world.publish().await;
    world.fails("tls", 2).await;
    world.publish().await;
    assert!(endpoint.connections() >= 2);
    assert!(endpoint.attempts().is_empty(), "an item went out without TLS that can be trusted");
    endpoint.mend();
    world.audit(|| endpoint.attempts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_signed_gets_nothing() {
    bad_tls(How::Certified(Certificate::SelfSigned)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_another_host_gets_nothing() {
    bad_tls(How::Certified(Certificate::OfAnotherHost)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_https_endpoint_without_tls_gets_nothing() {
    bad_tls(How::WithoutTls).await;
}
