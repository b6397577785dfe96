//! An HTTP endpoint that takes everything and counts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::get;
use tokio::net::TcpListener;

/// Serves until it is killed: POST is counted, GET tells the count.
pub(crate) async fn serve(addr: &str) {
    let count = Arc::new(AtomicU64::new(0));
    let tell = async |State(count): State<Arc<AtomicU64>>| count.load(Ordering::Relaxed).to_string();
    let take = async |State(count): State<Arc<AtomicU64>>, _body: Bytes| {
        count.fetch_add(1, Ordering::Relaxed);
    };
    let app = Router::new().route("/", get(tell).post(take)).with_state(count);
    axum::serve(TcpListener::bind(addr).await.unwrap(), app).await.unwrap();
}

/// How many posts it has taken.
pub(crate) async fn count(client: &reqwest::Client, url: &str) -> u64 {
    client.get(url).send().await.unwrap().text().await.unwrap().parse().unwrap()
}
