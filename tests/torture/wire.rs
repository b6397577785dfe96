//! A connection to an edge that believes nothing and checks nothing: what comes is written down by
//! its owner, and judged when all is over.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;

use crate::support::{Format, from_msgpack, to_msgpack, token};

/// How long an answer may take before the connection is believed to be dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// The receive buffer of who reads slowly.
const SMALL_BUFFER: u32 = 4 << 10;

/// Who connects.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) user: String,
    pub(crate) device: String,
    pub(crate) format: Format,
    /// Whether it takes little at a time.
    pub(crate) slow: bool,
}

/// What came in time.
pub(crate) enum Came {
    Frame(Value),
    Nothing,
    Closed,
}

/// A connection that was welcomed.
pub(crate) struct Wire {
    socket: WebSocketStream<TcpStream>,
    format: Format,
}

impl Wire {
    /// Connects to the edge at `addr` and says hello; nothing if there is no welcome in time.
    pub(crate) async fn connect(addr: &str, who: &Identity) -> Option<Self> {
        timeout(PATIENCE, Self::welcomed(addr, who)).await.ok().flatten()
    }

    async fn welcomed(addr: &str, who: &Identity) -> Option<Self> {
        let socket = TcpSocket::new_v4().ok()?;
        if who.slow {
            socket.set_recv_buffer_size(SMALL_BUFFER).ok()?;
        }
        let stream = socket.connect(addr.parse().expect("an address")).await.ok()?;
        stream.set_nodelay(true).ok()?;
        let mut request = format!("ws://{addr}/v1/connect").into_client_request().expect("a request");
        let subprotocol = who.format.subprotocol().parse().expect("a header");
        request.headers_mut().append("sec-websocket-protocol", subprotocol);
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.ok()?;
        let mut wire = Self { socket, format: who.format };
        let token = token(&who.user, &[("*", "rw")]);
        wire.send(&json!({ "type": "hello", "token": token, "device": who.device, "client": "torture" })).await?;
        match wire.next(PATIENCE).await {
            Came::Frame(frame) if frame["type"] == "welcome" => Some(wire),
            _ => None,
        }
    }

    /// Sends a frame; nothing if that isn't possible in time: the connection is dead.
    pub(crate) async fn send(&mut self, frame: &Value) -> Option<()> {
        let message = match self.format {
            Format::Json => Message::text(frame.to_string()),
            Format::MsgPack => Message::binary(to_msgpack(frame)),
        };
        timeout(PATIENCE, self.socket.send(message)).await.ok()?.ok()
    }

    /// The next frame. Dropping the wait loses nothing.
    pub(crate) async fn next(&mut self, wait: Duration) -> Came {
        let until = Instant::now() + wait;
        loop {
            let Ok(next) = timeout_at(until, self.socket.next()).await else { return Came::Nothing };
            return match (next, self.format) {
                (Some(Ok(Message::Text(text))), Format::Json) => {
                    Came::Frame(serde_json::from_str(&text).expect("the edge sends JSON"))
                }
                (Some(Ok(Message::Binary(bytes))), Format::MsgPack) => Came::Frame(from_msgpack(&bytes)),
                (Some(Ok(Message::Ping(_) | Message::Pong(_))), _) => continue,
                (Some(Ok(Message::Close(_)) | Err(_)) | None, _) => Came::Closed,
                (Some(Ok(other)), format) => panic!("{other:?} in {format:?}"),
            };
        }
    }

    /// Says goodbye, and waits a moment for the answer.
    pub(crate) async fn close(mut self) {
        let bye = async {
            let _ = self.socket.close(None).await;
            while self.socket.next().await.is_some_and(|frame| frame.is_ok()) {}
        };
        let _ = timeout(PATIENCE, bye).await;
    }
}
