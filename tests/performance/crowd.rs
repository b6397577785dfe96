//! A crowd: connections that follow rooms, and others that send into these rooms at a fixed rate.
//!
//! It lives in this process. What is measured, edge and Redis, are processes of their own.

use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _, stream};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::support::{token, unique};

/// Connections that send: enough that none comes near the limit of sends without an answer.
const PUBLISHERS: usize = 100;
/// Connections that are made at the same time.
const CONNECTING: usize = 64;
/// Joins under way at the same time.
const JOINING: usize = 1_000;
/// Longest wait for the next frame of anybody before the run is given up.
const SILENCE: Duration = Duration::from_secs(30);
/// A prime: messages go to all rooms in turn, and never to neighbours.
const STRIDE: u64 = 7_919;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Writer = SplitSink<Socket, Message>;

/// What a connection got.
enum Came {
    /// A room that was joined is live.
    Live,
    /// A message was accepted.
    Sent,
    /// The message with this number was delivered.
    Message(u64, Instant),
    /// What should not have come.
    Wrong(String),
}

/// All of its connections; closed when it is dropped.
pub(crate) struct Crowd {
    addr: String,
    prefix: String,
    followers: Vec<Writer>,
    publishers: Vec<Writer>,
    rooms: usize,
    sent: u64,
    came: UnboundedReceiver<Came>,
    coming: UnboundedSender<Came>,
    readers: JoinSet<()>,
}

impl Crowd {
    /// A crowd that can send at the edge at `addr`, and follows nothing.
    pub(crate) async fn new(addr: &str) -> Self {
        let (coming, came) = unbounded_channel();
        let mut crowd = Self {
            addr: addr.to_owned(),
            prefix: unique("crowd"),
            followers: Vec::new(),
            publishers: Vec::new(),
            rooms: 0,
            sent: 0,
            came,
            coming,
            readers: JoinSet::new(),
        };
        crowd.publishers = crowd.connect("p", 0, PUBLISHERS).await;
        crowd
    }

    /// From now on it has this many connections that follow, and each room is followed by one of them.
    pub(crate) async fn follow(&mut self, connections: usize, rooms: usize) {
        let more = self.connect("f", self.followers.len(), connections).await;
        self.followers.extend(more);
        while self.rooms < rooms {
            let end = rooms.min(self.rooms + JOINING);
            for room in self.rooms..end {
                let join = format!(r#"{{"type":"join","room":"{}-{room}","since":"now"}}"#, self.prefix);
                self.followers[room % connections].send(Message::text(join)).await.unwrap();
            }
            for _ in self.rooms..end {
                assert!(matches!(self.next().await, Came::Live), "only joins are under way");
            }
            self.rooms = end;
        }
    }

    /// Sends at this rate, whatever comes of it, to all rooms in turn; milliseconds from the planned time of each
    /// message to its delivery, in order of size. Each must be accepted and delivered, once.
    pub(crate) async fn send(&mut self, per_second: u32, seconds: u64) -> Vec<f64> {
        let (first, count) = (self.sent, u64::from(per_second) * seconds);
        let begin = Instant::now() + Duration::from_millis(100);
        let planned = move |n: u64| begin + Duration::from_secs(1) / per_second * u32::try_from(n - first).unwrap();
        // A thread of its own: the runtime's timers count milliseconds.
        let (plan, mut due) = unbounded_channel();
        std::thread::spawn(move || {
            for n in first..first + count {
                std::thread::sleep(planned(n).saturating_duration_since(Instant::now()));
                if plan.send(n).is_err() {
                    return;
                }
            }
        });
        while let Some(n) = due.recv().await {
            let (room, publisher) = (n * STRIDE % self.rooms as u64, n as usize % PUBLISHERS);
            let (prefix, text) = (&self.prefix, "x".repeat(180));
            let body = format!(r#"{{"n":{n},"text":"{text}"}}"#);
            let frame = format!(r#"{{"type":"send","room":"{prefix}-{room}","cid":"{prefix}-{n}","body":{body}}}"#);
            self.publishers[publisher].send(Message::text(frame)).await.unwrap();
        }
        self.sent = first + count;
        let (mut answers, mut latencies) = (0, vec![f64::NAN; usize::try_from(count).unwrap()]);
        let mut missing = count;
        while answers < count || missing > 0 {
            match self.next().await {
                Came::Sent => answers += 1,
                Came::Message(n, at) => {
                    let latency = &mut latencies[usize::try_from(n - first).unwrap()];
                    assert!(latency.is_nan(), "message {n} was delivered twice");
                    *latency = at.saturating_duration_since(planned(n)).as_secs_f64() * 1e3;
                    missing -= 1;
                }
                Came::Live | Came::Wrong(_) => unreachable!("nothing is joined, and what is wrong ends the run"),
            }
        }
        latencies.sort_by(f64::total_cmp);
        latencies
    }

    async fn next(&mut self) -> Came {
        let came = tokio::time::timeout(SILENCE, self.came.recv()).await.expect("a frame in time").unwrap();
        if let Came::Wrong(what) = came {
            panic!("{what}");
        }
        came
    }

    /// Makes the connections from number `from` to `to`, and reads from each.
    async fn connect(&mut self, role: &str, from: usize, to: usize) -> Vec<Writer> {
        let (addr, prefix) = (&self.addr, &self.prefix);
        let connecting = stream::iter(from..to).map(|n| greeted(addr, format!("{prefix}-{role}{n}")));
        let sockets: Vec<Socket> = connecting.buffered(CONNECTING).collect().await;
        let mut writers = Vec::new();
        for socket in sockets {
            let (writer, reader) = socket.split();
            self.readers.spawn(read(reader, self.coming.clone()));
            writers.push(writer);
        }
        writers
    }
}

/// A connection of a user of its own that has said hello.
async fn greeted(addr: &str, user: String) -> Socket {
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 4 << 10;
    config.write_buffer_size = 0;
    let url = format!("ws://{addr}/v1/connect");
    let (mut socket, _) = tokio_tungstenite::connect_async_with_config(url, Some(config), true).await.unwrap();
    let token = token(&user, &[("*", "rw")]);
    let hello = format!(r#"{{"type":"hello","token":"{token}","device":"{user}","client":"crowd"}}"#);
    socket.send(Message::text(hello)).await.unwrap();
    let welcome = socket.next().await.unwrap().unwrap();
    assert!(welcome.to_text().unwrap().starts_with(r#"{"type":"welcome""#), "{welcome}");
    socket
}

/// Reads until the connection or the crowd ends.
async fn read(mut reader: SplitStream<Socket>, coming: UnboundedSender<Came>) {
    loop {
        let came = match reader.next().await {
            Some(Ok(Message::Text(text))) => came(&text),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => None,
            other => Some(Came::Wrong(format!("a connection ended: {other:?}"))),
        };
        let Some(came) = came else { continue };
        let ended = matches!(came, Came::Wrong(_));
        if coming.send(came).is_err() || ended {
            return;
        }
    }
}

/// Told apart by first bytes: most of what comes need not be parsed.
fn came(frame: &str) -> Option<Came> {
    let kind = frame.strip_prefix(r#"{"type":""#)?.split('"').next()?;
    match kind {
        "message" => {
            let (_, number) = frame.split_once(r#""body":{"n":"#)?;
            Some(Came::Message(number.split(',').next()?.parse().ok()?, Instant::now()))
        }
        "sent" => Some(Came::Sent),
        // Each connection follows its inbox and `@all` by itself.
        "live" if !frame.contains(r#""room":"@"#) => Some(Came::Live),
        "error" | "reset" | "bye" | "left" => Some(Came::Wrong(frame.to_owned())),
        _ => None,
    }
}
