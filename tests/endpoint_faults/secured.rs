//! Endpoints that speak TLS, as most do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::Version;
use serde_json::Value;
use sha2::Sha256;

use crate::certificate::Certificate;
use crate::https::{Https, Post};
use crate::support::{CALLBACK_SECRET, wait_until};
use crate::world::{EACH, ROOMS, World};

/// Everything arrives, in this version of HTTP and as `docs/callbacks.md` says, at a server that offers these.
async fn arrives(offers: &'static [&'static str], version: Version) {
    let server = Https::start(Certificate::Good, offers).await;
    let mut world = World::start(&server.url(), &[]).await;
    world.publish().await;
    world.publish().await;
    world.audit(|| server.attempts()).await;
    for post in server.posts() {
        assert_eq!(post.version, version, "{post:?}");
        is_whole(&post);
    }
    assert_eq!(world.counted(Some("tls")).await, 0);
}

/// What a receiver would look at: where it was posted to, by whom, what, and with which signature.
fn is_whole(post: &Post) {
    assert_eq!(post.head, "POST /hook?of=tests");
    assert_eq!(post.header("content-type"), "application/json");
    let (id, at) = (post.header("webhook-id"), post.header("webhook-timestamp"));
    assert!(at.parse::<u64>().is_ok(), "{at}");
    let body: Value = serde_json::from_str(&post.body).unwrap();
    assert_eq!(body["type"], "message");
    assert_eq!(id.rsplit('_').next(), body["data"]["id"].as_str(), "the id of {body}");
    assert!(post.body.contains(r#""as it was written": "\u00e4 ä""#), "{}", post.body);
    let key = STANDARD.decode(CALLBACK_SECRET.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    mac.update(format!("{id}.{at}.{}", post.body).as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(post.header("webhook-signature"), signature);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_offers_http_2_is_posted_to_over_http_2() {
    arrives(&["h2", "http/1.1"], Version::HTTP_2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_offers_only_http_1_1_is_posted_to_over_that() {
    arrives(&["http/1.1"], Version::HTTP_11).await;
}

/// It knows nothing of ALPN.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_offers_nothing_is_posted_to_over_http_1_1() {
    arrives(&[], Version::HTTP_11).await;
}

/// Nobody whom the worker trusts has signed what it shows: it gets no byte of an item, whatever it offers. The
/// same server under the certificate of the authority then gets everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_http_2_that_nobody_vouches_for_gets_nothing() {
    let server = Https::start(Certificate::SelfSigned, &["h2"]).await;
    let mut world = World::start(&server.url(), &[]).await;
    world.publish().await;
    world.fails("tls", 2).await;
    assert!(server.posts().is_empty(), "an item went out to {:?}", server.posts());
    for outcome in ["accepted", "connect", "broken"] {
        assert_eq!(world.counted(Some(outcome)).await, 0, "attempts that ended as {outcome}");
    }
    server.certify(Certificate::Good);
    world.audit(|| server.attempts()).await;
}

/// A connection of HTTP/2 takes any number of requests: one that has fallen silent must not take those that come after
/// an attempt over it has come to its deadline.
async fn is_left_when_silent(offers: &'static [&'static str]) {
    let server = Https::start(Certificate::Good, offers).await;
    let mut world = World::start(&server.url(), &[]).await;
    world.publish().await;
    wait_until("all of it arrived", async || server.posts().len() as u64 >= ROOMS * EACH).await;
    server.fall_silent();
    world.publish().await;
    world.fails("timeout", 1).await;
    world.audit(|| server.attempts()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_of_http_2_is_left_for_a_new_one() {
    is_left_when_silent(&["h2"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_connection_of_http_1_1_is_left_for_a_new_one() {
    is_left_when_silent(&["http/1.1"]).await;
}
