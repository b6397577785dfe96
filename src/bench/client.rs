//! One load client: a connection that has said hello.
//!
//! What comes in numbers (messages, answers) is told apart by its first bytes and never parsed as JSON: the
//! load shares the machine with what it measures.

use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::body::Stamp;
use super::target::Target;
use crate::error::{Error, Kind, Result};

/// Longest wait for an answer before the load is given up.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// Bytes that are read at once: many clients share the machine.
const READ_BYTES: usize = 8 << 10;
/// Bytes that are gathered before they are written.
const WRITE_BYTES: usize = 16 << 10;

/// A connection.
pub(super) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

/// What the edge said.
#[derive(Debug)]
pub(super) enum Came {
    /// A message of a room.
    Message(Stamp),
    /// The messages of a `replay`, in its order.
    Replay(Vec<Stamp>),
    /// A send was accepted; its `ref`.
    Sent(u64),
    /// Anything else.
    Other(Value),
}

impl Client {
    /// Connects as this user and device, up to `welcome`.
    pub(super) async fn connect(target: &Target, number: usize, user: &str, device: &str) -> Result<Self> {
        let token = target.token(user)?;
        let url = target.url(number);
        let failed = || Error::new(Kind::Endpoint, format!("connect to {url}"));
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = READ_BYTES;
        config.write_buffer_size = WRITE_BYTES;
        let connecting = tokio_tungstenite::connect_async_with_config(url, Some(config), true);
        let (socket, _) = timeout(ANSWER, connecting)
            .await
            .map_err(|_| failed().caused_by("no answer"))?
            .map_err(|error| failed().caused_by(error))?;
        let mut client = Self { socket };
        let hello = json!({ "type": "hello", "token": token, "device": device, "client": "millstream bench" });
        client.say(&hello).await?;
        client.answer("welcome", "").await?;
        Ok(client)
    }

    /// Joins a room, up to `joined`.
    pub(super) async fn join(&mut self, room: &str, since: &str) -> Result<()> {
        self.say(&json!({ "type": "join", "room": room, "since": since })).await?;
        self.answer("joined", room).await
    }

    /// Waits for the first frame of this type about this room; what else comes is passed over.
    pub(super) async fn answer(&mut self, kind: &str, room: &str) -> Result<()> {
        loop {
            let Came::Other(frame) = self.next_in_time().await? else { continue };
            if frame["type"] == kind && (room.is_empty() || frame["room"] == room) {
                return Ok(());
            }
            if frame["type"] == "error" {
                return Err(refused(&frame));
            }
        }
    }

    /// Waits for a frame of this type about each of the rooms.
    pub(super) async fn answers(&mut self, kind: &str, mut rooms: Vec<String>) -> Result<()> {
        while !rooms.is_empty() {
            match self.next_in_time().await? {
                Came::Other(frame) if frame["type"] == kind => rooms.retain(|room| frame["room"] != room.as_str()),
                Came::Other(frame) if frame["type"] == "error" => return Err(refused(&frame)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The next frame, which has to come soon.
    pub(super) async fn next_in_time(&mut self) -> Result<Came> {
        timeout(ANSWER, self.next()).await.map_err(|_| Error::new(Kind::Endpoint, "wait for an answer of the edge"))?
    }

    /// The next frame.
    pub(super) async fn next(&mut self) -> Result<Came> {
        loop {
            let message = self.socket.next().await;
            if let Some(came) = read(message)? {
                return Ok(came);
            }
        }
    }

    /// The next frame if it is here already.
    pub(super) fn ready(&mut self) -> Result<Option<Came>> {
        loop {
            match self.socket.next().now_or_never() {
                None => return Ok(None),
                Some(message) => match read(message)? {
                    None => {}
                    came => return Ok(came),
                },
            }
        }
    }

    /// Writes a frame behind those that are gathered.
    pub(super) async fn feed(&mut self, frame: String) -> Result<()> {
        self.socket.feed(Message::Text(frame.into())).await.map_err(gone)
    }

    /// Writes what is gathered.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.socket.flush().await.map_err(gone)
    }

    pub(super) async fn say(&mut self, frame: &Value) -> Result<()> {
        self.socket.send(Message::text(frame.to_string())).await.map_err(gone)
    }

    /// Closes the connection, in a bounded time.
    pub(super) async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }
}

type Received = Option<std::result::Result<Message, tungstenite::Error>>;

fn read(message: Received) -> Result<Option<Came>> {
    match message {
        Some(Ok(Message::Text(text))) => classify(&text).map(Some),
        Some(Ok(Message::Close(frame))) => {
            let why =
                frame.map_or_else(|| "without a code".to_owned(), |frame| format!("{}: {}", frame.code, frame.reason));
            Err(Error::new(Kind::Endpoint, format!("stay connected: the edge closed {why}")))
        }
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(gone(error)),
        None => Err(Error::new(Kind::Endpoint, "stay connected: the edge is gone")),
    }
}

fn classify(text: &Utf8Bytes) -> Result<Came> {
    if text.starts_with(r#"{"type":"message""#)
        && let Some(stamp) = Stamp::find(text)
    {
        return Ok(Came::Message(stamp));
    }
    if text.starts_with(r#"{"type":"replay""#) {
        return Ok(Came::Replay(Stamp::find_all(text).collect()));
    }
    if let Some(rest) = text.strip_prefix(r#"{"type":"sent","ref":"#)
        && let Some(Ok(number)) = rest.split(',').next().map(str::parse)
    {
        return Ok(Came::Sent(number));
    }
    let frame = serde_json::from_str(text);
    frame.map(Came::Other).map_err(|error| Error::new(Kind::Endpoint, "read a frame of the edge").caused_by(error))
}

fn gone(error: tungstenite::Error) -> Error {
    Error::new(Kind::Endpoint, "stay connected").caused_by(error)
}

/// A refusal that the load can't go on with.
pub(super) fn refused(frame: &Value) -> Error {
    let (code, message) = (frame["code"].as_str().unwrap_or("error"), frame["message"].as_str().unwrap_or(""));
    let advice = match code {
        "rate_limited" => "; a load wants limits.sends_per_second = 0",
        _ => "",
    };
    Error::new(Kind::Endpoint, format!("go on, the edge refused: {code}: {message}{advice}"))
}
