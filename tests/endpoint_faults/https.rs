//! An HTTPS server that offers the protocols it is told to, answers everything with 204, and keeps what came,
//! until it falls silent.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use crate::certificate::Certificate;
use crate::endpoint::Attempt;

const HTTP_2: &[u8] = b"h2";

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Post {
    pub(crate) version: Version,
    pub(crate) head: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Post {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no header {name}")).to_str().unwrap()
    }
}

struct Shared {
    offers: &'static [&'static str],
    certificate: Mutex<Certificate>,
    posts: Mutex<Vec<Post>>,
    /// Whether the next request is one too many.
    silent: AtomicBool,
    /// What was connected when that one came says nothing any more.
    silence: Notify,
}

/// The server; ends when it is dropped.
pub(crate) struct Https {
    addr: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl Https {
    /// One that says it is `certificate`, and offers these protocols by ALPN, its favourite first.
    pub(crate) async fn start(certificate: Certificate, offers: &'static [&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            offers,
            certificate: Mutex::new(certificate),
            posts: Mutex::default(),
            silent: AtomicBool::new(false),
            silence: Notify::new(),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, shared.clone())));
        Self { addr, shared, _task: task }
    }

    /// `https://127.0.0.1:port/hook?of=tests`
    pub(crate) fn url(&self) -> String {
        format!("https://{}/hook?of=tests", self.addr)
    }

    /// From now on a new connection is shown this one.
    pub(crate) fn certify(&self, certificate: Certificate) {
        *self.shared.certificate.lock().unwrap() = certificate;
    }

    /// At the next request every connection there is falls silent: it stays, and nothing comes from it any more,
    /// not even what keeps it alive. New ones are served.
    pub(crate) fn fall_silent(&self) {
        self.shared.silent.store(true, Ordering::SeqCst);
    }

    /// The requests that were answered so far.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.shared.posts.lock().unwrap().clone()
    }

    /// The same, as of any endpoint.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        let attempt = |post: Post| Attempt { id: post.header("webhook-id").into(), body: post.body, well: true };
        self.posts().into_iter().map(attempt).collect()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

/// A connection, until the other side has had enough of it.
async fn converse(stream: TcpStream, shared: Arc<Shared>) {
    let certificate = *shared.certificate.lock().unwrap();
    let mut config = ServerConfig::clone(&certificate.server());
    config.alpn_protocols = shared.offers.iter().map(|name| name.as_bytes().to_vec()).collect();
    let Ok(tls) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
    let speaks_http_2 = tls.get_ref().1.alpn_protocol() == Some(HTTP_2);
    let silence = shared.clone();
    let silence = silence.silence.notified();
    let (io, take) = (TokioIo::new(tls), service_fn(move |request| take(request, shared.clone())));
    // How a connection ends says nothing; what came over it does.
    match speaks_http_2 {
        true => until(silence, http2::Builder::new(TokioExecutor::new()).serve_connection(io, take)).await,
        false => until(silence, http1::Builder::new().serve_connection(io, take)).await,
    }
}

/// Serves a connection until there is silence, and keeps it then.
async fn until(silence: impl Future<Output = ()>, connection: impl Future) {
    let mut connection = pin!(connection);
    tokio::select! {
        _ = &mut connection => {}
        () = silence => std::future::pending().await,
    }
}

async fn take(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    if shared.silent.swap(false, Ordering::SeqCst) {
        shared.silence.notify_waiters();
        std::future::pending().await
    }
    let (head, body) = request.into_parts();
    let body = String::from_utf8(body.collect().await?.to_bytes().to_vec()).unwrap();
    let target = head.uri.path_and_query().unwrap();
    let post = Post { version: head.version, head: format!("{} {target}", head.method), headers: head.headers, body };
    shared.posts.lock().unwrap().push(post);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = hyper::StatusCode::NO_CONTENT;
    Ok(response)
}
