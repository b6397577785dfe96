//! An HTTP server that misbehaves byte by byte until it is mended.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::certificate::Certificate;

/// How requests are answered.
#[derive(Clone)]
pub(crate) enum How {
    /// As they should be.
    Well,
    /// With these bytes, and the end of the connection.
    With(String),
    /// Never.
    Never,
    /// With these bytes, and then these again and again, with this time between them.
    Endlessly(String, String, Duration),
    /// By a reset, after the request was taken over.
    Reset,
    /// In HTTP, whatever comes: what speaks TLS is a bad request.
    WithoutTls,
    /// Under a wrong name; well otherwise.
    Certified(Certificate),
}

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    /// Its `webhook-id`.
    pub(crate) id: String,
    /// Its body, byte for byte.
    pub(crate) body: String,
    /// Whether it was answered well.
    pub(crate) well: bool,
}

impl Attempt {
    /// The room and the number of its message.
    pub(crate) fn what(&self) -> (String, u64) {
        let data = serde_json::from_str::<Value>(&self.body).unwrap()["data"].take();
        (data["room"].as_str().unwrap().to_owned(), data["seq"].as_u64().unwrap())
    }
}

struct Shared {
    how: Mutex<How>,
    attempts: Mutex<Vec<Attempt>>,
    connections: AtomicU64,
    written: AtomicU64,
    https: bool,
}

/// The server; ends when it is dropped.
pub(crate) struct Endpoint {
    addr: String,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

impl Endpoint {
    pub(crate) async fn start(how: How) -> Self {
        let https = matches!(how, How::WithoutTls | How::Certified(_));
        Self::with("127.0.0.1:0", how, https).await
    }

    pub(crate) async fn start_at(addr: &str, how: How) -> Self {
        Self::with(addr, how, false).await
    }

    async fn with(addr: &str, how: How, https: bool) -> Self {
        let listener = TcpListener::bind(addr).await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            how: Mutex::new(how),
            attempts: Mutex::default(),
            connections: AtomicU64::new(0),
            written: AtomicU64::new(0),
            https,
        });
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, shared.clone())));
        Self { addr, shared, _task: task }
    }

    /// `http://127.0.0.1:port/hook`, or `https` where it should speak that.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/hook", if self.shared.https { "https" } else { "http" }, self.addr)
    }

    /// From now on it misbehaves like this.
    pub(crate) fn break_again(&self, how: How) {
        *self.shared.how.lock().unwrap() = how;
    }

    /// From now on it answers well. Connections that are under way stay as they are.
    pub(crate) fn mend(&self) {
        *self.shared.how.lock().unwrap() = How::Well;
    }

    /// The requests so far.
    pub(crate) fn attempts(&self) -> Vec<Attempt> {
        self.shared.attempts.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes of endless answers that went out so far.
    pub(crate) fn written(&self) -> u64 {
        self.shared.written.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(converse(stream, shared.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn converse(mut stream: TcpStream, shared: Arc<Shared>) {
    let how = shared.how.lock().unwrap().clone();
    let certificate = match how {
        How::WithoutTls => return talk_http_to_tls(&mut stream).await,
        How::Certified(certificate) => certificate,
        _ if shared.https => Certificate::Good,
        _ => {
            if matches!(how, How::Reset) {
                let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            }
            return talk(&mut stream, &shared).await;
        }
    };
    let acceptor = tokio_rustls::TlsAcceptor::from(certificate.server());
    if let Ok(mut tls) = acceptor.accept(stream).await {
        talk(&mut tls, &shared).await;
        let _ = tls.shutdown().await;
    }
}

/// As usual servers do.
async fn talk_http_to_tls(stream: &mut TcpStream) {
    let mut greeting = Vec::new();
    let _ = stream.read_buf(&mut greeting).await;
    let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    while stream.read_buf(&mut greeting).await.is_ok_and(|length| length > 0) {}
}

async fn talk(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), shared: &Shared) {
    let Some((id, body)) = read(stream).await else { return };
    // Mended since the connection was made: it is the request that counts.
    let how = shared.how.lock().unwrap().clone();
    let well = matches!(how, How::Well);
    shared.attempts.lock().unwrap().push(Attempt { id, body, well });
    match how {
        How::Well => drop(stream.write_all(b"HTTP/1.1 204 x\r\nconnection: close\r\n\r\n").await),
        How::With(bytes) => drop(stream.write_all(bytes.as_bytes()).await),
        How::Never => std::future::pending().await,
        How::Endlessly(first, again, pause) => {
            let mut wrote = stream.write_all(first.as_bytes()).await;
            while wrote.is_ok() {
                wrote = stream.write_all(again.as_bytes()).await;
                shared.written.fetch_add(again.len() as u64, Ordering::SeqCst);
                tokio::time::sleep(pause).await;
            }
        }
        // The end comes with what is set for the socket.
        How::Reset | How::WithoutTls | How::Certified(_) => {}
    }
}

/// `webhook-id` and body of a request.
async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let headers: HashMap<String, &str> = lines.map(|(name, value)| (name.to_lowercase(), value.trim())).collect();
    let length: usize = headers.get("content-length")?.parse().ok()?;
    while bytes.len() < end + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[end + 4..].to_vec()).unwrap();
    Some(((*headers.get("webhook-id")?).to_owned(), body))
}
