//! An HTTP server that answers as a test says, byte for byte.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::DEADLINE;

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
    pub(super) at: Instant,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    fn data(&self) -> Value {
        serde_json::from_slice::<Value>(&self.body).expect("a body is JSON")["data"].take()
    }

    /// The room and the number of the message.
    pub(super) fn what(&self) -> (String, u64) {
        let data = self.data();
        (data["room"].as_str().unwrap().to_owned(), data["seq"].as_u64().unwrap())
    }
}

/// How a request is answered.
#[derive(Clone)]
pub(super) enum Reply {
    /// With a status and these further lines of its head, each ended by CRLF.
    Status(u16, String),
    /// With exactly these bytes, and the end of the connection.
    Raw(Vec<u8>),
    /// With 200 once the test says so.
    After(Arc<Notify>),
    /// Never.
    Hang,
    /// With 200 and a body without an end, in pieces of this size with this time between them.
    Endless(usize, Duration),
}

pub(super) fn ok() -> Reply {
    status(200)
}

pub(super) fn status(code: u16) -> Reply {
    Reply::Status(code, String::new())
}

type Script = dyn Fn(&Request) -> Reply + Send + Sync;

/// The server; ends when it is dropped.
pub(super) struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Request>>>,
    count: watch::Receiver<usize>,
    sent: Arc<Mutex<usize>>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    script: Box<Script>,
    seen: Arc<Mutex<Vec<Request>>>,
    count: watch::Sender<usize>,
    sent: Arc<Mutex<usize>>,
}

impl Server {
    pub(super) async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (count, counted) = watch::channel(0);
        let (seen, sent) = (Arc::default(), Arc::default());
        let shared = Shared { script: Box::new(script), seen: Arc::clone(&seen), count, sent: Arc::clone(&sent) };
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::new(shared))));
        Self { port, seen, count: counted, sent, _task: task }
    }

    pub(super) fn url(&self) -> String {
        self.url_of("127.0.0.1")
    }

    pub(super) fn url_of(&self, host: &str) -> String {
        format!("http://{host}:{}/hook", self.port)
    }

    pub(super) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The room and number of each request so far.
    pub(super) fn order(&self) -> Vec<(String, u64)> {
        self.seen().iter().map(Request::what).collect()
    }

    /// Bytes of endless bodies that were written.
    pub(super) fn sent(&self) -> usize {
        *self.sent.lock().unwrap()
    }

    /// Waits until so many requests have come.
    pub(super) async fn saw(&self, requests: usize) {
        let mut count = self.count.clone();
        let came = count.wait_for(|count| *count >= requests);
        let came = tokio::time::timeout(DEADLINE, came).await;
        assert!(came.is_ok(), "{requests} requests did not come: {:?}", self.order());
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.spawn(answer(stream, shared.clone()));
    }
}

async fn answer(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some(request) = read(&mut stream).await else { return };
    let reply = (shared.script)(&request);
    shared.seen.lock().unwrap().push(request);
    shared.count.send_modify(|count| *count += 1);
    let head = |code: u16, lines: &str| format!("HTTP/1.1 {code} x\r\nconnection: close\r\n{lines}\r\n").into_bytes();
    let bytes = match reply {
        Reply::Status(code, lines) => head(code, &format!("content-length: 0\r\n{lines}")),
        Reply::Raw(bytes) => bytes,
        Reply::After(notify) => {
            notify.notified().await;
            head(200, "content-length: 0\r\n")
        }
        Reply::Hang => std::future::pending().await,
        Reply::Endless(piece, pause) => {
            let mut wrote = stream.write_all(&head(200, "")).await;
            while wrote.is_ok() {
                *shared.sent.lock().unwrap() += piece;
                wrote = stream.write_all(&vec![b'x'; piece]).await;
                tokio::time::sleep(pause).await;
            }
            return;
        }
    };
    let _ = stream.write_all(&bytes).await;
}

async fn read(stream: &mut TcpStream) -> Option<Request> {
    let at = Instant::now();
    let mut bytes = Vec::new();
    let end = loop {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let headers: HashMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    while bytes.len() < end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    Some(Request { path, headers, body: bytes[end + 4..].to_vec(), at })
}
