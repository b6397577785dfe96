//! A TCP proxy that can be broken in the ways in which networks break.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use super::background;

/// Bytes of one piece at most.
const PIECE_BYTES: usize = 16 << 10;
/// How often a piece of [`Mode::Bandwidth`] goes on.
const TICK: Duration = Duration::from_millis(20);
/// Buffers of the sockets of [`Proxy::narrow`].
const NARROW_BYTES: usize = 16 << 10;

/// What a [`Proxy`] does with what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything.
    Pass,
    /// Connections are reset, and new ones as soon as they are made.
    Down,
    /// Connections stay and new ones are taken, but nothing passes until the mode changes.
    Blackhole,
    /// Requests pass, replies wait until the mode changes: a network that is open one way only.
    HoldReplies,
    /// Every piece is late by this much, each way.
    Latency(Duration),
    /// So many bytes a second, each way.
    Bandwidth(u32),
    /// Every byte in a segment of its own.
    Slices,
    /// Requests pass, replies are lost. The connection is reset when the mode changes.
    DropReplies,
    /// As [`Mode::DropReplies`], after this many more bytes of replies on each connection.
    DropRepliesAfter(u64),
    /// A connection on which a request with these bytes passes is reset at the next reply, which is
    /// lost: the request is carried out, and nobody hears so.
    LoseReplyTo(&'static str),
}

/// What the connections look at.
#[derive(Debug, Clone, Copy)]
struct State {
    mode: Mode,
    /// How often all connections were reset.
    cuts: u64,
    /// How often all connections were left without an end.
    strandings: u64,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
    lost: AtomicU64,
}

/// A breakable connection between a client and `target`.
pub struct Proxy {
    addr: String,
    target: Arc<Mutex<String>>,
    state: watch::Sender<State>,
    counts: Arc<Counts>,
    _stop: oneshot::Sender<()>,
}

impl Proxy {
    /// Begins to pass connections on to `target` (`host:port`).
    pub async fn start(target: impl Into<String>) -> Self {
        Self::with(target.into(), false).await
    }

    /// As [`Proxy::start`], with small buffers: who doesn't read is felt by who writes.
    pub async fn narrow(target: impl Into<String>) -> Self {
        Self::with(target.into(), true).await
    }

    async fn with(target: String, narrow: bool) -> Self {
        let (state, watching) = watch::channel(State { mode: Mode::Pass, cuts: 0, strandings: 0 });
        let (stop, stopped) = oneshot::channel::<()>();
        let counts = Arc::new(Counts::default());
        let listener = background()
            .spawn(async { TcpListener::bind("127.0.0.1:0").await.expect("a port is free") })
            .await
            .expect("binding doesn't panic");
        let addr = listener.local_addr().expect("it is bound").to_string();
        let target = Arc::new(Mutex::new(target));
        let link = Link { target: target.clone(), narrow, state: watching, counts: counts.clone() };
        background().spawn(async move {
            tokio::select! {
                () = accept(listener, link) => {}
                _ = stopped => {}
            }
        });
        Self { addr, target, state, counts, _stop: stop }
    }

    /// Where clients connect: `127.0.0.1:port`.
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// From now on, new connections go to `target`; those that there are stay.
    pub fn retarget(&self, target: impl Into<String>) {
        *self.target.lock().unwrap() = target.into();
    }

    /// Breaks it, or mends it with [`Mode::Pass`].
    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| {
            state.cuts += u64::from(mode == Mode::Down);
            state.mode = mode;
        });
    }

    /// Resets every connection that there is; new ones pass.
    pub fn cut(&self) {
        self.state.send_modify(|state| {
            state.cuts += 1;
            state.mode = Mode::Pass;
        });
    }

    /// Every connection that there is stays open, and nothing passes on it any more, as when the
    /// machine behind it is gone; new ones pass.
    pub fn strand(&self) {
        self.state.send_modify(|state| state.strandings += 1);
    }

    /// Connections made so far.
    pub fn connections(&self) -> u64 {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Bytes of requests that came so far.
    pub fn request_bytes(&self) -> u64 {
        self.counts.requests.load(Ordering::SeqCst)
    }

    /// How often a reply was lost so far.
    pub fn lost_replies(&self) -> u64 {
        self.counts.lost.load(Ordering::SeqCst)
    }
}

/// What every connection knows.
#[derive(Clone)]
struct Link {
    target: Arc<Mutex<String>>,
    narrow: bool,
    state: watch::Receiver<State>,
    counts: Arc<Counts>,
}

impl Link {
    fn mode(&mut self) -> Mode {
        self.state.borrow_and_update().mode
    }

    /// Waits for another mode; forever when the proxy is gone, which ends the connection anyway.
    async fn changed(&mut self) {
        if self.state.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

async fn accept(listener: TcpListener, link: Link) {
    let mut passing = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        link.counts.connections.fetch_add(1, Ordering::SeqCst);
        let link = link.clone();
        passing.spawn(async move { pass(client, link).await });
        while passing.try_join_next().is_some() {}
    }
}

async fn pass(client: TcpStream, mut link: Link) {
    let began = *link.state.borrow_and_update();
    // Closing with nothing sent first: the peer sees a reset, as when a machine is gone.
    prepare(&client, link.narrow);
    if began.mode == Mode::Down {
        return;
    }
    let (mut watching, mut stranding) = (link.state.clone(), link.state.clone());
    let cut = async { drop(watching.wait_for(|state| state.cuts != began.cuts).await) };
    let stranded = async { drop(stranding.wait_for(|state| state.strandings != began.strandings).await) };
    // It holds the sockets, which a stranded connection keeps.
    let mut passing = std::pin::pin!(pass_on(client, link));
    tokio::select! {
        () = &mut passing => {}
        () = cut => {}
        () = stranded => std::future::pending().await,
    }
}

async fn pass_on(client: TcpStream, mut link: Link) {
    while link.mode() == Mode::Blackhole {
        link.changed().await;
    }
    let target = link.target.lock().unwrap().clone();
    let Ok(server) = TcpStream::connect(&target).await else { return };
    prepare(&server, link.narrow);
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let doomed = Arc::new(AtomicBool::new(false));
    let up = Pump { link: link.clone(), from: client_read, to: server_write, back: false, doomed: doomed.clone() };
    let down = Pump { link, from: server_read, to: client_write, back: true, doomed };
    tokio::select! {
        () = up.run() => {}
        () = down.run() => {}
    }
}

/// One direction of a connection.
struct Pump {
    link: Link,
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    /// The way of the replies.
    back: bool,
    /// A request has passed whose reply is to be lost.
    doomed: Arc<AtomicBool>,
}

impl Pump {
    async fn run(mut self) {
        let mut buffer = vec![0; PIECE_BYTES];
        let (mut dropping, mut passed) = (None, 0_u64);
        loop {
            let now = self.link.mode();
            if dropping.is_some_and(|mode| mode != now) {
                return;
            }
            let read = tokio::select! {
                read = self.from.read(&mut buffer) => read,
                () = self.link.changed() => { passed = 0; continue }
            };
            let Ok(length @ 1..) = read else { return };
            let kept = match now {
                Mode::DropReplies if self.back => 0,
                Mode::DropRepliesAfter(limit) if self.back => {
                    usize::try_from(limit.saturating_sub(passed)).unwrap_or(length).min(length)
                }
                Mode::LoseReplyTo(_) if self.back && self.doomed.load(Ordering::SeqCst) => {
                    self.link.counts.lost.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                _ => length,
            };
            passed += length as u64;
            if kept < length {
                dropping = Some(now);
                self.link.counts.lost.fetch_add(1, Ordering::SeqCst);
            }
            if !self.back {
                self.link.counts.requests.fetch_add(length as u64, Ordering::SeqCst);
                self.look_at(&buffer[..length]);
            }
            if self.hand_on(&buffer[..kept]).await.is_err() {
                return;
            }
        }
    }

    /// Marks the connection if this is a request whose reply is to be lost.
    fn look_at(&mut self, piece: &[u8]) {
        if let Mode::LoseReplyTo(wanted) = self.link.mode()
            && piece.windows(wanted.len()).any(|window| window == wanted.as_bytes())
        {
            self.doomed.store(true, Ordering::SeqCst);
        }
    }

    /// Passes a piece on, as fast as the mode of each moment allows.
    async fn hand_on(&mut self, mut piece: &[u8]) -> std::io::Result<()> {
        let mut late = false;
        while !piece.is_empty() {
            let length = match self.link.mode() {
                Mode::Blackhole => {
                    self.link.changed().await;
                    continue;
                }
                Mode::HoldReplies if self.back => {
                    self.link.changed().await;
                    continue;
                }
                Mode::Latency(time) if !late => {
                    late = true;
                    tokio::time::sleep(time).await;
                    continue;
                }
                Mode::Bandwidth(rate) => {
                    tokio::time::sleep(TICK).await;
                    let ticks = u32::try_from(1_000 / TICK.as_millis()).expect("a tick is some milliseconds");
                    usize::try_from(rate / ticks).unwrap_or(1).clamp(1, piece.len())
                }
                Mode::Slices => 1,
                _ => piece.len(),
            };
            self.to.write_all(&piece[..length]).await?;
            piece = &piece[length..];
        }
        Ok(())
    }
}

/// Has the socket end with a reset instead of a goodbye, and pass pieces as they come.
fn prepare(stream: &TcpStream, narrow: bool) {
    let _ = stream.set_nodelay(true);
    let socket = socket2::SockRef::from(stream);
    let _ = socket.set_linger(Some(Duration::ZERO));
    if narrow {
        let _ = socket.set_send_buffer_size(NARROW_BYTES);
        let _ = socket.set_recv_buffer_size(NARROW_BYTES);
    }
}
