//! The bare server: broadcasts in memory and promises nothing. No edge on this WebSocket library can be faster.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, Receiver, Sender};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Messages that a slow subscriber may lag behind before the load sees a loss.
const LAG: usize = 1 << 10;

type Rooms = Arc<Mutex<HashMap<String, Sender<Utf8Bytes>>>>;

/// Serves until it is killed.
pub(crate) async fn serve(addr: &str) {
    let listener = TcpListener::bind(addr).await.unwrap();
    let rooms = Rooms::default();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(connection(stream, rooms.clone()));
    }
}

struct Connection {
    socket: WebSocketStream<TcpStream>,
    rooms: Rooms,
    following: Option<Receiver<Utf8Bytes>>,
    sending: Option<Sender<Utf8Bytes>>,
}

async fn connection(stream: TcpStream, rooms: Rooms) {
    stream.set_nodelay(true).unwrap();
    let mut config = WebSocketConfig::default();
    config.read_buffer_size = 4 << 10;
    config.write_buffer_size = 16 << 10;
    let Ok(socket) = tokio_tungstenite::accept_async_with_config(stream, Some(config)).await else { return };
    let mut connection = Connection { socket, rooms, following: None, sending: None };
    while connection.turn().await.is_some() {}
}

impl Connection {
    /// Waits for a frame or a message, takes all that are here, and flushes once.
    async fn turn(&mut self) -> Option<()> {
        let following = async {
            match &mut self.following {
                Some(following) => following.recv().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = following => {
                self.socket.feed(Message::Text(message?)).await.ok()?;
                while let Some(message) = self.following.as_mut().and_then(|following| following.try_recv().ok()) {
                    self.socket.feed(Message::Text(message)).await.ok()?;
                }
            }
            message = self.socket.next() => {
                self.heard(message?.ok()?).await?;
                while let Some(message) = self.socket.next().now_or_never() {
                    self.heard(message?.ok()?).await?;
                }
            }
        }
        self.socket.flush().await.ok()
    }

    async fn heard(&mut self, message: Message) -> Option<()> {
        let Message::Text(text) = message else { return Some(()) };
        let Some(rest) = text.strip_prefix(r#"{"type":"send","ref":"#) else { return self.other(&text).await };
        let reference = rest.split(',').next()?;
        let body = &rest[rest.find(r#","body":"#)? + 8..rest.len() - 1];
        if self.sending.is_none() {
            let room = rest.split_once(r#""room":""#)?.1.split('"').next()?;
            self.sending = Some(self.room(room));
        }
        // As long as a message of ours.
        let frame = format!(
            r#"{{"type":"message","room":"a room of some length","id":"1700000000000-0","seq":1000000,"user":"somebody-0","device":"some-0","cid":"00000000-000-00000","kind":"text","body":{body},"at":1700000000000}}"#
        );
        let _ = self.sending.as_ref()?.send(frame.into());
        let sent = format!(
            r#"{{"type":"sent","ref":{reference},"room":"a room of some length","cid":"00000000-000-00000","id":"1700000000000-0","seq":1000000,"duplicate":false}}"#
        );
        self.socket.feed(Message::text(sent)).await.ok()
    }

    async fn other(&mut self, text: &str) -> Option<()> {
        let frame: serde_json::Value = serde_json::from_str(text).ok()?;
        let room = frame["room"].as_str().unwrap_or_default();
        let answers = match frame["type"].as_str()? {
            "hello" => vec![r#"{"type":"welcome"}"#.to_owned()],
            "join" => {
                self.following = Some(self.room(room).subscribe());
                ["joined", "live"].map(|kind| format!(r#"{{"type":"{kind}","room":"{room}"}}"#)).to_vec()
            }
            _ => vec![],
        };
        for answer in answers {
            self.socket.feed(Message::text(answer)).await.ok()?;
        }
        Some(())
    }

    fn room(&self, room: &str) -> Sender<Utf8Bytes> {
        let mut rooms = self.rooms.lock().unwrap();
        rooms.entry(room.to_owned()).or_insert_with(|| broadcast::channel(LAG).0).clone()
    }
}
