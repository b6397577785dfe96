//! The listener for health and metrics.
//!
//! Answers `/livez`, `/readyz` and `/metrics`, and nothing else: it is for machines inside.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::warn;

use crate::telemetry::{Metrics, Readiness};

/// Scrapers and probes are few; more than this is a mistake or an attack. The files that a process keeps for itself
/// ([`sockets`](crate::sockets)) hold so many.
const CONNECTIONS_MAX: usize = 32;
/// Longest wait for the header of a request, the idle time between two as well.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Wait after a failed accept: it fails again at once when files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the listener tells.
#[derive(Clone)]
pub(super) struct Health {
    pub(super) readiness: Readiness,
    /// Only the listener that is for machines inside tells numbers.
    pub(super) metrics: Option<Arc<Metrics>>,
}

/// Answers until it is dropped; connections end with it.
pub(super) async fn serve(listener: &TcpListener, health: Health) -> Infallible {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        // Taken before accepting, so that too many wait outside and don't fail.
        let permit = permits.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let health = health.clone();
                connections.spawn(async move {
                    converse(stream, health).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "could not accept a connection for health and metrics");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(stream: TcpStream, health: Health) {
    let answers = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request, &health))));
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(16 << 10);
    // A probe that hangs up early is no news.
    let _ = server.serve_connection(TokioIo::new(stream), answers).await;
}

fn answer(request: &Request<Incoming>, health: &Health) -> Response<Full<Bytes>> {
    // A listener that is not served yet knows no methods: a caller that posts shall come again too.
    if health.metrics.is_some() && !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
    }
    match (request.uri().path(), &health.metrics) {
        ("/livez", _) => text(StatusCode::OK, "ok\n"),
        ("/readyz", _) => ready(&health.readiness),
        ("/metrics", Some(metrics)) => {
            // Its gauges are set when it is asked, and a scrape must not show what the last probe saw.
            health.readiness.report();
            respond(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics.render())
        }
        (_, Some(_)) => text(StatusCode::NOT_FOUND, "/livez, /readyz and /metrics are here\n"),
        // Whoever asks a listener that is not served yet shall come again.
        (_, None) => {
            let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "starting\n");
            response.headers_mut().insert(RETRY_AFTER, hyper::header::HeaderValue::from_static("1"));
            response
        }
    }
}

fn ready(readiness: &Readiness) -> Response<Full<Bytes>> {
    let report = readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = serde_json::to_string(&report).unwrap_or_default();
    respond(status, "application/json", body + "\n")
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", body)
}

fn respond(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
