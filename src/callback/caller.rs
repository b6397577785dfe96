//! One attempt: an HTTP POST, from connecting to the end of the answer.
//!
//! Owns the HTTP client of one endpoint. Promises that an attempt ends by its deadline, that its
//! connection takes no other attempt then, that at most [`BODY_BYTES_MAX`] of an answer are read,
//! and that redirects, proxies and compression play no part. The size of an answer's head is
//! bounded by the client (about 400 KiB; HTTP/2: 16 KiB).
//!
//! **Invariant:** [`Answer::Ours`] is given only for what the endpoint can't be blamed for.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::http::uri::Scheme;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::endpoint::Endpoint;
use super::guard::{Refused, Resolver, Unresolved, check_literal};
use super::item::Item;
use super::retry::retry_after;
use super::trust;
use crate::error::{Error, Kind, Result};
use crate::fault::{self, Fault};

/// So much of an answer is read; what follows is cut off with the connection.
const BODY_BYTES_MAX: usize = 64 << 10;
/// So much of a refusal's body is kept for the dead letters.
const NOTE_CHARS_MAX: usize = 200;
/// A kept-alive connection is given up before common servers do it (Node.js after 5 s), so that an
/// attempt doesn't run into the closing.
const IDLE_MAX: Duration = Duration::from_secs(4);

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const REPLAY: HeaderName = HeaderName::from_static("millstream-replay");

/// The usual outcome, as a label of metrics.
pub(super) const ACCEPTED: &str = "accepted";

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Answer {
    /// 2xx, and the answer was complete.
    Accepted,
    /// 410: the endpoint wants nothing any more.
    Gone,
    /// The endpoint did not accept it.
    Failed(Failure),
    /// The attempt failed on our side: no resolver, no network, no sockets.
    Ours(String),
}

/// An attempt that the endpoint is to blame for.
#[derive(Debug)]
pub(super) struct Failure {
    /// A word of a closed set, for metrics.
    pub(super) outcome: &'static str,
    /// What was wrong, for people.
    pub(super) why: String,
    /// How long the endpoint asked to wait.
    pub(super) retry_after: Option<Duration>,
    /// Whether it asked so for everything (429, 503), and not for this item.
    pub(super) holds_all: bool,
}

impl Failure {
    fn new(outcome: &'static str, why: impl Into<String>) -> Self {
        Self { outcome, why: why.into(), retry_after: None, holds_all: false }
    }
}

impl Answer {
    /// The outcome as a label of metrics.
    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Accepted => ACCEPTED,
            Self::Gone => "gone",
            Self::Failed(failure) => failure.outcome,
            Self::Ours(_) => "ours",
        }
    }
}

/// Makes attempts at one endpoint.
#[derive(Debug)]
pub(super) struct Caller {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    uri: Uri,
    /// What every attempt says.
    headers: HeaderMap,
}

impl Caller {
    /// A client for `endpoint`.
    ///
    /// # Errors
    /// [`Kind::Config`] if TLS can't be set up: an `https` endpoint needs the system's certificates.
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self> {
        let unprepared =
            || Error::new(Kind::Config, format!("prepare the HTTP client of callback endpoint {}", endpoint.name));
        // Redirects aren't followed, so to an `http` endpoint TLS never happens.
        let tls = if endpoint.url.scheme() == "http" { trust::nobodys() } else { trust::of_the_system() };
        let tls = tls.map_err(|e| unprepared().caused_by(e))?;
        // The URL may hold a secret: what is wrong with it is not told with it.
        let uri = endpoint.url.as_str().parse().map_err(|e| unprepared().caused_by(e))?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver { allow_private: endpoint.allow_private });
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_all_versions().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(endpoint.concurrency)
            .build(connector);
        let headers = HeaderMap::from_iter([
            (USER_AGENT, HeaderValue::from_static(concat!("millstream/", env!("CARGO_PKG_VERSION")))),
            (ACCEPT, HeaderValue::from_static("*/*")),
            (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        ]);
        Ok(Self { client, uri, headers })
    }

    /// Posts `item` once, signed as at `now_ms`. Dropping it may leave the item with the endpoint, unanswered: the next
    /// attempt repeats it, with the same id.
    pub(super) async fn attempt(&self, endpoint: &Endpoint, item: &Item, now_ms: u64) -> Answer {
        if let Err(refused) = check_literal(&endpoint.url, endpoint.allow_private) {
            return Answer::Failed(Failure::new("refused_address", refused.to_string()));
        }
        let mut request = self.request(endpoint, item, now_ms);
        // A connection of HTTP/2, which only TLS negotiates, outlives an attempt that is dropped.
        let connection = (self.uri.scheme() == Some(&Scheme::HTTPS)).then(|| capture_connection(&mut request));
        if let Ok(answer) = tokio::time::timeout(endpoint.timeout, self.post(request)).await {
            return answer;
        }
        if let Some(connection) = connection {
            // It may be silent for good, and would take every attempt from here on.
            connection.connection_metadata().as_ref().inspect(|connected| connected.poison());
        }
        Answer::Failed(Failure::new("timeout", format!("no complete answer in {:?}", endpoint.timeout)))
    }

    fn request(&self, endpoint: &Endpoint, item: &Item, now_ms: u64) -> Request<Full<Bytes>> {
        let now = (now_ms / 1_000).to_string();
        let mut request = Request::new(Full::new(item.body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        let mut set = |name: HeaderName, value: &str| {
            headers.insert(name, value.parse().expect("digits, letters and base64 are valid in a header"));
        };
        set(WEBHOOK_ID, &item.id);
        set(WEBHOOK_TIMESTAMP, &now);
        if !endpoint.signer.is_silent() {
            set(WEBHOOK_SIGNATURE, &endpoint.signer.sign(&item.id, &now, &item.body));
        }
        if item.replayed {
            set(REPLAY, "true");
        }
        request
    }

    async fn post(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = match self.client.request(request).await {
            Ok(response) => response,
            Err(error) => return failed(&error, error.is_connect()),
        };
        let (head, body) = response.into_parts();
        match read(body).await {
            Ok(note) => judge(head.status, &head.headers, &note),
            Err(error) => failed(&error, false),
        }
    }
}

/// The beginning of the answer's body. What is beyond the limit is cut off with the connection.
async fn read(mut answer: Incoming) -> Result<Vec<u8>, hyper::Error> {
    let mut body = Vec::new();
    while let Some(frame) = answer.frame().await {
        let Ok(chunk) = frame?.into_data() else { continue };
        body.extend_from_slice(&chunk[..chunk.len().min(BODY_BYTES_MAX - body.len())]);
        if body.len() >= BODY_BYTES_MAX {
            break;
        }
    }
    Ok(body)
}

fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Answer {
    let dropped = fault::active(Fault::WebhookDroppedAt500) && status.is_server_error();
    if status.is_success() || dropped {
        return Answer::Accepted;
    }
    if status == StatusCode::GONE {
        return Answer::Gone;
    }
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let retry_after = text(RETRY_AFTER).and_then(|after| retry_after(after, text(DATE), SystemTime::now()));
    let outcome = match status.as_u16() {
        429 => "throttled",
        300..400 => "redirect",
        400..500 => "rejected",
        _ => "error",
    };
    let holds_all = retry_after.is_some() && matches!(status.as_u16(), 429 | 503);
    Answer::Failed(Failure { outcome, why: describe(status, body), retry_after, holds_all })
}

fn describe(status: StatusCode, body: &[u8]) -> String {
    let note: String = String::from_utf8_lossy(body).trim().chars().take(NOTE_CHARS_MAX).collect();
    match note.is_empty() {
        true => format!("HTTP {}", status.as_u16()),
        false => format!("HTTP {}: {}", status.as_u16(), note.escape_debug()),
    }
}

/// Whose fault an attempt without an answer was; `connecting`: it did not come to posting.
fn failed(error: &(dyn std::error::Error + 'static), connecting: bool) -> Answer {
    let why = in_full(error);
    if cause::<Refused>(error).is_some() {
        return Answer::Failed(Failure::new("refused_address", why));
    }
    if let Some(unresolved) = cause::<Unresolved>(error) {
        return if unresolved.ours { Answer::Ours(why) } else { Answer::Failed(Failure::new("connect", why)) };
    }
    if causes(error).filter_map(|cause| cause.downcast_ref()).any(is_ours) {
        return Answer::Ours(why);
    }
    let outcome = match (cause::<rustls::Error>(error).is_some(), connecting) {
        (true, _) => "tls",
        (false, true) => "connect",
        (false, false) => "broken",
    };
    Answer::Failed(Failure::new(outcome, why))
}

/// Whether the system could not even try: out of files, ports or memory, or without a network.
fn is_ours(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    /// Source: `errno.h` of Linux: ENFILE, EMFILE, ENOBUFS.
    const OUT_OF: [i32; 3] = [23, 24, 105];
    let kinds = [
        ErrorKind::AddrNotAvailable,
        ErrorKind::NetworkDown,
        ErrorKind::NetworkUnreachable,
        ErrorKind::OutOfMemory,
        ErrorKind::PermissionDenied,
    ];
    kinds.contains(&error.kind()) || error.raw_os_error().is_some_and(|code| OUT_OF.contains(&code))
}

/// An error and its causes, also those that an I/O error carries: [`source`](std::error::Error::source) of such a one
/// is what comes after what it carries, and the libraries below put one into another.
fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        let carried = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        carried.map(|carried| carried as _).or_else(|| error.source())
    })
}

/// The first cause of this type.
fn cause<'a, T: std::error::Error + 'static>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A cause that an I/O error carries inside another one was passed over: a certificate that isn't to be
    /// trusted counted as an endpoint that is away. Nor may a lack of files of our own be, however it comes.
    #[test]
    fn causes_are_found_through_nested_io_errors() {
        let nested = |inner: io::Error| io::Error::other(io::Error::new(inner.kind(), inner));
        let out_of_files = nested(io::Error::from_raw_os_error(24));
        assert!(causes(&out_of_files).filter_map(|cause| cause.downcast_ref()).any(is_ours));
        let tls = nested(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(cause(&tls), Some(&rustls::Error::DecryptError));
        assert!(cause::<rustls::Error>(&out_of_files).is_none());
    }
}
