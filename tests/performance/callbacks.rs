//! Callbacks to a fast endpoint, against a plain HTTP client with the same concurrency.

use std::time::{Duration, Instant};

use super::child::Server;
use super::endpoint::count;
use super::load::bench;
use super::row::{Goal, Row, System};

/// `callback.endpoints.concurrency`, as it is by default.
const CONCURRENCY: usize = 16;
const ROOMS: u64 = 64;
const OF_ROOM: u64 = 500;

pub(crate) async fn measure(system: &mut System) -> Vec<Row> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::new();
    let server = Server::start("--endpoint").await;
    let url = format!("http://{}/", server.addr);
    let args = format!("catch-up --publish-only --rooms {ROOMS} --messages {OF_ROOM}");
    bench(&system.stack, system.stack.addr("edge"), &args).await;
    let plain = plain_posts(&client, &url, system.seconds).await;
    let before = count(&client, &url).await;
    let env = [("DATA_CALLBACK_URL", url.as_str())];
    system.stack.add("callback", "callback", &env);
    system.stack.process("callback").ready().await;
    let (mut begin, mut last, mut done) = (Instant::now(), Instant::now(), 0);
    // Each room has an event and its messages.
    while done < ROOMS * (OF_ROOM + 1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = count(&client, &url).await - before;
        if done == 0 {
            begin = Instant::now();
        }
        if now > done {
            (done, last) = (now, Instant::now());
        }
        assert!(last.elapsed() < Duration::from_secs(60), "{done} callbacks, and no more");
    }
    let ours = done as f64 / (last - begin).as_secs_f64();
    vec![Row::new("callbacks, in order per room", "/s", ours, Some(plain), Goal::AtLeast(0.6))]
}

/// Posts per second of a body as long as a callback's.
async fn plain_posts(client: &reqwest::Client, url: &str, seconds: u64) -> f64 {
    let end = Instant::now() + Duration::from_secs(seconds);
    let posting = (0..CONCURRENCY).map(|_| {
        let (client, url) = (client.clone(), url.to_owned());
        tokio::spawn(async move {
            let mut posts = 0;
            while Instant::now() < end {
                let answer = client.post(&url).header("content-type", "application/json").body(vec![b'x'; 420]);
                answer.send().await.unwrap().bytes().await.unwrap();
                posts += 1;
            }
            posts
        })
    });
    let mut posts = 0;
    for posted in posting.collect::<Vec<_>>() {
        posts += posted.await.unwrap();
    }
    f64::from(posts) / seconds as f64
}
