//! A client of the protocol that checks promise 2 on everything it sees.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::{DEADLINE, frames};

/// A subprotocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `millstream.v1.json`
    Json,
    /// `millstream.v1.msgpack`
    MsgPack,
}

impl Format {
    /// Its name in the handshake.
    pub fn subprotocol(self) -> &'static str {
        match self {
            Self::Json => "millstream.v1.json",
            Self::MsgPack => "millstream.v1.msgpack",
        }
    }
}

/// What came in time.
#[derive(Debug)]
pub enum Came {
    /// A frame, checked.
    Frame(Value),
    /// Nothing.
    Nothing,
    /// The connection is closed.
    Closed,
}

/// The server did not upgrade the connection.
#[derive(Debug)]
pub struct HandshakeRefused {
    /// Its status; nothing if there was no answer in HTTP.
    pub status: Option<u16>,
}

/// What was seen of a room since it was joined or reset.
#[derive(Debug, Default, Clone)]
struct Delivered {
    /// Seq of the last message; nothing before the first `joined`.
    seq: Option<u64>,
    /// Id of the last entry.
    id: (u64, u64),
}

/// One connection.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    format: Format,
    backlog: VecDeque<Value>,
    delivered: HashMap<String, Delivered>,
    account: HashMap<String, Vec<Value>>,
    closed: Option<(u16, String)>,
}

impl Client {
    /// Connects to the edge at `addr` (`host:port`), without `hello`.
    pub async fn connect(addr: &str, format: Format) -> Self {
        Self::try_connect(addr, &[("sec-websocket-protocol", format.subprotocol())], format).await.expect("an upgrade")
    }

    /// Connects with these headers; answers are read in `format`.
    pub async fn try_connect(
        addr: &str,
        headers: &[(&'static str, &str)],
        format: Format,
    ) -> Result<Self, HandshakeRefused> {
        let mut request = format!("ws://{addr}/v1/connect").into_client_request().expect("a request");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a header"));
        }
        let connecting = tokio_tungstenite::connect_async(request);
        let connected = tokio::time::timeout(DEADLINE, connecting).await.expect("an answer to the handshake in time");
        match connected {
            Ok((socket, _)) => Ok(Self {
                socket,
                format,
                backlog: VecDeque::new(),
                delivered: HashMap::new(),
                account: HashMap::new(),
                closed: None,
            }),
            Err(tungstenite::Error::Http(response)) => {
                Err(HandshakeRefused { status: Some(response.status().as_u16()) })
            }
            Err(_) => Err(HandshakeRefused { status: None }),
        }
    }

    /// Connects and says hello.
    pub async fn hello_at(addr: &str, format: Format, token: &str, device: &str) -> Self {
        let mut client = Self::connect(addr, format).await;
        client.hello(token, device).await;
        client
    }

    /// Says hello; the answer is the `welcome`.
    pub async fn hello(&mut self, token: &str, device: &str) -> Value {
        self.send_frame(&json!({ "type": "hello", "token": token, "device": device, "client": "tests" })).await;
        self.expect("welcome").await
    }

    /// Joins a room and waits until its catch-up is complete; the answer is `joined`. What was
    /// delivered stands in [`Client::account`].
    pub async fn join(&mut self, room: &str, since: Value) -> Value {
        self.send_frame(&json!({ "type": "join", "room": room, "since": since })).await;
        let joined = self.expect_in("joined", room).await;
        self.expect_in("live", room).await;
        joined
    }

    /// Sends a message and waits for its `sent`.
    pub async fn send(&mut self, room: &str, cid: &str, body: Value) -> Value {
        self.send_frame(&json!({ "type": "send", "room": room, "cid": cid, "body": body })).await;
        let of_cid = |frame: &Value| frame["cid"] == cid && (frame["type"] == "sent" || frame["type"] == "error");
        let answer = self.next_where(&format!("the answer to {cid}"), of_cid).await;
        assert_eq!(answer["type"], "sent", "{answer}");
        answer
    }

    /// Sends a message again, as section 3 of the protocol says, until it is accepted.
    pub async fn send_until_sent(&mut self, room: &str, cid: &str, body: Value) -> Value {
        loop {
            self.send_frame(&json!({ "type": "send", "room": room, "cid": cid, "body": body })).await;
            let of_cid = |frame: &Value| frame["cid"] == cid && (frame["type"] == "sent" || frame["type"] == "error");
            let answer = self.next_where(&format!("the answer to {cid}"), of_cid).await;
            if answer["type"] == "sent" {
                return answer;
            }
            assert_eq!(answer["retryable"], true, "{answer}");
            let wait = answer["retry_after_ms"].as_u64().unwrap_or(50);
            tokio::time::sleep(Duration::from_millis(wait.min(500))).await;
        }
    }

    /// Acknowledges what was delivered of a room so far.
    pub async fn ack_delivered(&mut self, room: &str) {
        let seq = self.last_seq(room);
        self.send_frame(&json!({ "type": "ack", "room": room, "seq": seq })).await;
    }

    /// Any frame, by its long keys.
    pub async fn send_frame(&mut self, frame: &Value) {
        assert!(self.try_send_frame(frame).await, "the connection is gone: {:?}", self.closed);
    }

    /// Any frame; false if the connection is gone.
    pub async fn try_send_frame(&mut self, frame: &Value) -> bool {
        let message = match self.format {
            Format::Json => Message::text(frame.to_string()),
            Format::MsgPack => Message::binary(frames::to_msgpack(frame)),
        };
        self.socket.send(message).await.is_ok()
    }

    /// Any message of the WebSocket.
    pub async fn send_raw(&mut self, message: Message) {
        self.socket.send(message).await.expect("the connection is open");
    }

    /// The next frame of a type; others wait for their turn.
    pub async fn expect(&mut self, kind: &str) -> Value {
        self.next_where(kind, |frame| frame["type"] == kind).await
    }

    /// The next frame of a type about a room; others wait for their turn.
    pub async fn expect_in(&mut self, kind: &str, room: &str) -> Value {
        let what = format!("{kind} in {room}");
        self.next_where(&what, |frame| frame["type"] == kind && frame["room"] == room).await
    }

    /// The next `error`, whose code must be `code`.
    pub async fn expect_error(&mut self, code: &str) -> Value {
        let error = self.expect("error").await;
        assert_eq!(error["code"], code, "{error}");
        error
    }

    /// Waits until the message with number `seq` of a room was delivered.
    pub async fn delivered_up_to(&mut self, room: &str, seq: u64) {
        while self.last_seq(room) < seq {
            let frame = self.next_frame().await;
            let frame = frame.unwrap_or_else(|| panic!("closed {:?} before {room} reached {seq}", self.closed));
            self.backlog.push_back(frame);
        }
    }

    /// Number of the last message of a room that was delivered.
    pub fn last_seq(&self, room: &str) -> u64 {
        self.delivered.get(room).and_then(|room| room.seq).unwrap_or(0)
    }

    /// The cursor of the last entry of a room that was delivered.
    pub fn cursor(&self, room: &str) -> Value {
        let delivered = self.delivered.get(room).cloned().unwrap_or_default();
        json!({ "id": format!("{}-{}", delivered.id.0, delivered.id.1), "seq": delivered.seq.unwrap_or(0) })
    }

    /// All entries of a room that were delivered on this connection, in order: `message` and
    /// `event` frames, with `room`, wherever they came in.
    pub fn account(&self, room: &str) -> &[Value] {
        self.account.get(room).map_or(&[], Vec::as_slice)
    }

    /// The bodies of the messages of a room that were delivered, in order.
    pub fn bodies(&self, room: &str) -> Vec<Value> {
        self.account(room).iter().filter(|e| e["type"] == "message").map(|e| e["body"].clone()).collect()
    }

    /// Asserts that no frame of a type has come so far.
    pub fn assert_none_waiting(&self, kind: &str) {
        assert!(!self.backlog.iter().any(|frame| frame["type"] == kind), "there is a {kind}: {:?}", self.backlog);
    }

    /// Waits for the server to close; code (1006 without a close frame) and reason.
    pub async fn closed(&mut self) -> (u16, String) {
        while let Some(frame) = self.next_frame().await {
            self.backlog.push_back(frame);
        }
        self.closed.clone().expect("it is closed")
    }

    /// Says goodbye and waits for the answer.
    pub async fn close(mut self) {
        let _ = self.socket.close(None).await;
        let _ = self.closed().await;
    }

    /// The next frame from the server, or nothing once the connection is closed. The checks of
    /// promise 2 have been done on it.
    pub async fn next_frame(&mut self) -> Option<Value> {
        match self.next_within(DEADLINE).await {
            Came::Frame(frame) => Some(frame),
            Came::Closed => None,
            Came::Nothing => panic!("nothing came for {DEADLINE:?}; waiting: {:?}", self.backlog),
        }
    }

    /// As [`Client::next_frame`], for those who go on when nothing comes.
    pub async fn next_within(&mut self, wait: Duration) -> Came {
        let until = tokio::time::Instant::now() + wait;
        while self.closed.is_none() {
            let Ok(next) = tokio::time::timeout_at(until, self.socket.next()).await else { return Came::Nothing };
            let frame = match (next, self.format) {
                (Some(Ok(Message::Text(text))), Format::Json) => {
                    serde_json::from_str(&text).expect("the server sends JSON")
                }
                (Some(Ok(Message::Binary(bytes))), Format::MsgPack) => frames::from_msgpack(&bytes),
                (Some(Ok(Message::Ping(_) | Message::Pong(_))), _) => continue,
                (Some(Ok(Message::Close(frame))), _) => {
                    let said = |frame: CloseFrame| (frame.code.into(), frame.reason.as_str().to_owned());
                    self.closed = Some(frame.map_or((1005, String::new()), said));
                    continue;
                }
                (None | Some(Err(_)), _) => {
                    self.closed = Some((1006, String::new()));
                    continue;
                }
                (Some(Ok(other)), format) => panic!("{other:?} in {format:?}"),
            };
            self.check(&frame);
            return Came::Frame(frame);
        }
        Came::Closed
    }

    async fn next_where(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.backlog.iter().position(&wanted) {
            return self.backlog.remove(at).expect("it was found");
        }
        let begin = std::time::Instant::now();
        loop {
            let Some(frame) = self.next_frame().await else {
                panic!("closed {:?} while waiting for {what}; seen: {:?}", self.closed, self.backlog)
            };
            if wanted(&frame) {
                return frame;
            }
            self.backlog.push_back(frame);
            assert!(begin.elapsed() < DEADLINE, "waited in vain for {what}; seen: {:?}", self.backlog);
        }
    }

    /// Promise 2: from `joined` or `reset` on, seqs go up by one each and ids grow.
    fn check(&mut self, frame: &Value) {
        let Some(room) = frame["room"].as_str().map(str::to_owned) else { return };
        match frame["type"].as_str().unwrap_or_default() {
            "joined" => self.begin(&room, &frame["since"]),
            "reset" => self.begin(&room, &frame["from"]),
            "left" => drop(self.delivered.remove(&room)),
            "message" | "event" => self.take(&room, frame.clone()),
            "replay" => {
                for entry in frame["entries"].as_array().expect("replay has entries") {
                    let mut entry = entry.clone();
                    entry["room"] = room.clone().into();
                    self.take(&room, entry);
                }
            }
            "live" => assert_eq!(frame["seq"].as_u64(), self.delivered[&room].seq, "live: {frame}"),
            _ => {}
        }
    }

    fn begin(&mut self, room: &str, cursor: &Value) {
        let seq = cursor["seq"].as_u64().unwrap_or_else(|| panic!("{room} begins after {cursor}"));
        let delivered = Delivered { seq: Some(seq), id: id_of(cursor) };
        self.delivered.insert(room.to_owned(), delivered);
    }

    fn take(&mut self, room: &str, entry: Value) {
        let before = self.delivered.get(room).cloned();
        let before = before.unwrap_or_else(|| panic!("an entry of {room}, which isn't joined: {entry}"));
        let last = before.seq.expect("a joined room has one");
        let expected = if entry["type"] == "message" { last + 1 } else { last };
        assert_eq!(entry["seq"].as_u64(), Some(expected), "after {last} in {room} came {entry}");
        let id = id_of(&entry);
        assert!(id > before.id, "after {:?} in {room} came {entry}", before.id);
        self.delivered.insert(room.to_owned(), Delivered { seq: Some(expected), id });
        self.account.entry(room.to_owned()).or_default().push(entry);
    }
}

fn id_of(value: &Value) -> (u64, u64) {
    let parse = |id: &str| {
        let (ms, n) = id.split_once('-')?;
        Some((ms.parse().ok()?, n.parse().ok()?))
    };
    value["id"].as_str().and_then(parse).unwrap_or_else(|| panic!("{value} has no id"))
}
