//! A TCP proxy that can be broken in the ways in which networks break.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::background;

/// What a [`Proxy`] does with what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Pass,
    /// Connections are reset, and new ones as soon as they are made.
    Down,
    /// Connections stay and new ones are taken, but nothing passes: a half-open network.
    Blackhole,
    /// Every piece is late by this much, each way.
    Latency(Duration),
    /// Requests pass, replies are lost. The connection is reset when the mode changes.
    DropReplies,
    /// As [`Mode::DropReplies`], after this many more bytes of replies on each connection.
    DropRepliesAfter(u64),
}

/// A breakable connection between a client and `target`.
pub struct Proxy {
    addr: String,
    mode: watch::Sender<Mode>,
    connections: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// Begins to pass connections on to `target` (`host:port`).
    pub async fn start(target: impl Into<String>) -> Self {
        let target = target.into();
        let (mode, watching) = watch::channel(Mode::Pass);
        let (stop, stopped) = oneshot::channel::<()>();
        let (connections, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counts = (connections.clone(), requests.clone());
        let listener = background()
            .spawn(async { TcpListener::bind("127.0.0.1:0").await.expect("a port is free") })
            .await
            .expect("binding doesn't panic");
        let addr = listener.local_addr().expect("it is bound").to_string();
        background().spawn(async move {
            tokio::select! {
                () = accept(listener, target, watching, counts) => {}
                _ = stopped => {}
            }
        });
        Self { addr, mode, connections, requests, _stop: stop }
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Breaks it, or mends it with [`Mode::Pass`].
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Resets every connection that there is; new ones pass.
    pub async fn cut(&self) {
        self.set(Mode::Down);
        // Each connection sees a change of mode at its next turn, and a change back would hide it.
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.set(Mode::Pass);
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Bytes of requests that came so far.
    pub fn request_bytes(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    mode: watch::Receiver<Mode>,
    (connections, requests): (Arc<AtomicU64>, Arc<AtomicU64>),
) {
    let mut passing = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.fetch_add(1, Ordering::SeqCst);
        let (target, mode, requests) = (target.clone(), mode.clone(), requests.clone());
        passing.spawn(async move { pass(client, target, mode, requests).await });
        while passing.try_join_next().is_some() {}
    }
}

async fn pass(client: TcpStream, target: String, mut mode: watch::Receiver<Mode>, requests: Arc<AtomicU64>) {
    let _ = client.set_nodelay(true);
    if *mode.borrow_and_update() == Mode::Down {
        reset(&client);
        return;
    }
    while *mode.borrow_and_update() == Mode::Blackhole {
        if mode.changed().await.is_err() {
            return;
        }
    }
    let Ok(server) = TcpStream::connect(&target).await else {
        reset(&client);
        return;
    };
    let _ = server.set_nodelay(true);
    // Closing with nothing sent first: the peer sees a reset, as when a machine is gone.
    reset(&client);
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let up = pump(client_read, server_write, mode.clone(), Some(requests));
    let down = pump(server_read, client_write, mode, None);
    tokio::select! {
        () = up => {}
        () = down => {}
    }
}

/// Passes one direction; `requests` counts the way to the server, and is absent on the way back.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    requests: Option<Arc<AtomicU64>>,
) {
    let mut buffer = vec![0; 16 << 10];
    let (mut dropping, mut passed) = (None, 0_u64);
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Down || dropping.is_some_and(|mode| mode != now) {
            return;
        }
        if now == Mode::Blackhole {
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            changed = mode.changed() => match changed {
                Ok(()) => { passed = 0; continue }
                Err(_) => return,
            },
        };
        let Ok(length @ 1..) = read else { return };
        let piece = &buffer[..length];
        if let Some(requests) = &requests {
            requests.fetch_add(length as u64, Ordering::SeqCst);
        }
        let kept = match now {
            Mode::Latency(time) => {
                tokio::time::sleep(time).await;
                length
            }
            Mode::DropReplies if requests.is_none() => 0,
            Mode::DropRepliesAfter(limit) if requests.is_none() => {
                usize::try_from(limit.saturating_sub(passed)).unwrap_or(length).min(length)
            }
            _ => length,
        };
        passed += length as u64;
        if kept < length {
            dropping = Some(now);
        }
        if to.write_all(&piece[..kept]).await.is_err() {
            return;
        }
    }
}

/// Has the socket end with a reset instead of a goodbye.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
