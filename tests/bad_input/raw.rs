//! A client that does nothing right by itself: a handshake by hand, then any bytes.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::support::{DEADLINE, Format, token};

/// First byte of a whole text message.
pub(crate) const TEXT: u8 = 0x81;
/// First byte of a whole binary message.
pub(crate) const BINARY: u8 = 0x82;
/// First byte of a close.
pub(crate) const CLOSE: u8 = 0x88;
/// First byte of a ping.
pub(crate) const PING: u8 = 0x89;

/// What the server did next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// It sent a frame: opcode and payload.
    Frame(u8, Vec<u8>),
    /// It closed the connection.
    End,
    /// It cut the connection: what was on its way may be lost.
    Cut,
}

/// One connection.
pub(crate) struct Raw {
    reader: OwnedReadHalf,
    writer: Option<OwnedWriteHalf>,
    buffer: Vec<u8>,
    format: Format,
    cut: bool,
}

impl Raw {
    /// A TCP connection on which nothing was said.
    pub(crate) async fn tcp(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).await.expect("the server listens");
        let (reader, writer) = stream.into_split();
        Self { reader, writer: Some(writer), buffer: Vec::new(), format: Format::Json, cut: false }
    }

    /// An upgraded connection, without `hello`.
    pub(crate) async fn upgraded(addr: &str, format: Format) -> Self {
        let mut raw = Self { format, ..Self::tcp(addr).await };
        let request = upgrade(&format!("sec-websocket-protocol: {}\r\n", format.subprotocol()));
        assert!(raw.write(request.as_bytes()).await);
        raw.skip_head().await;
        raw
    }

    /// A connection that was welcomed.
    pub(crate) async fn welcomed(addr: &str, format: Format, user: &str) -> Self {
        let mut raw = Self::upgraded(addr, format).await;
        raw.send(&json!({ "type": "hello", "token": token(user, &[("*", "rw")]), "device": "d" })).await;
        raw.answer("welcome").await;
        raw
    }

    /// Any bytes; false if the connection is gone.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        let writer = self.writer.as_mut().expect("the writing half is here");
        timeout(DEADLINE, writer.write_all(bytes)).await.expect("the server reads in time").is_ok()
    }

    /// The writing half, to write and read at the same time.
    pub(crate) fn take_writer(&mut self) -> OwnedWriteHalf {
        self.writer.take().expect("the writing half is here")
    }

    /// A masked frame; false if the connection is gone.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) -> bool {
        self.write(&masked(first, payload)).await
    }

    /// A frame of the protocol as it stands there, in a whole message; false if the connection is gone.
    pub(crate) async fn payload(&mut self, payload: &[u8]) -> bool {
        let first = if self.format == Format::Json { TEXT } else { BINARY };
        self.frame(first, payload).await
    }

    /// A frame of the protocol, by its long keys (MessagePack: by its short ones, as they are given).
    pub(crate) async fn send(&mut self, frame: &Value) {
        let payload = match self.format {
            Format::Json => frame.to_string().into_bytes(),
            Format::MsgPack => rmp_serde::to_vec(&short(frame)).unwrap(),
        };
        assert!(self.payload(&payload).await, "the connection is gone");
    }

    /// What the server does next. Its close is answered, as long as both halves are here.
    pub(crate) async fn next(&mut self) -> Got {
        let got = timeout(DEADLINE, self.next_of_server()).await.expect("the server does something in time");
        if let (Got::Frame(8, payload), true) = (&got, self.writer.is_some()) {
            let reply = masked(CLOSE, payload);
            // A server that has its answer already may be gone.
            let _ = self.write(&reply).await;
        }
        got
    }

    /// Sends a message until it is accepted: the log may be busy.
    pub(crate) async fn until_sent(&mut self, message: &[u8]) -> Value {
        loop {
            assert!(self.write(message).await, "the connection is gone");
            let answer = self.answer_where(|kind| kind == "sent" || kind == "error").await;
            if answer["type"] == "sent" {
                return answer;
            }
            assert_eq!(answer["code"], "unavailable", "{answer}");
        }
    }

    /// The next frame of the protocol that has this type; others are left out.
    pub(crate) async fn answer(&mut self, kind: &str) -> Value {
        let answer = self.answer_where(|other| other == kind || other == "error").await;
        let of_kind = answer.get("type").or(answer.get("t")).is_some_and(|other| other == kind);
        assert!(of_kind, "waiting for {kind} came {answer}");
        answer
    }

    /// The next frame of this type that is about this room: those of the inbox and of `@all` come by themselves,
    /// as soon as their partitions can be read.
    pub(crate) async fn answer_in(&mut self, room: &str, kind: &str) -> Value {
        let field = if self.format == Format::Json { "room" } else { "r" };
        loop {
            let answer = self.answer(kind).await;
            if answer[field] == room {
                return answer;
            }
        }
    }

    async fn answer_where(&mut self, wanted: impl Fn(&str) -> bool) -> Value {
        loop {
            match self.next().await {
                Got::Frame(1 | 2, payload) => {
                    let frame = self.read(&payload);
                    let kind = &frame[if self.format == Format::Json { "type" } else { "t" }];
                    if kind.as_str().is_some_and(&wanted) {
                        return frame;
                    }
                }
                Got::Frame(8, payload) => panic!("closed {:?} instead of an answer", code_of(&payload)),
                Got::Frame(..) => {}
                end => panic!("{end:?} instead of an answer"),
            }
        }
    }

    /// Code of the next `error`.
    pub(crate) async fn error(&mut self) -> String {
        let error = self.answer("error").await;
        error[if self.format == Format::Json { "code" } else { "o" }].as_str().unwrap().to_owned()
    }

    /// Asserts that the connection still serves.
    pub(crate) async fn assert_alive(&mut self) {
        self.send(&json!({ "type": "ping" })).await;
        self.answer("pong").await;
    }

    /// Reads to the close: codes of the `error` frames, and the close code.
    pub(crate) async fn close_frame(&mut self) -> (Vec<String>, u16) {
        let mut errors = Vec::new();
        loop {
            match self.next().await {
                Got::Frame(1 | 2, payload) => errors.extend(self.error_of(&payload)),
                Got::Frame(8, payload) => return (errors, code_of(&payload)),
                Got::Frame(..) => {}
                end => panic!("{end:?} without a close"),
            }
        }
    }

    fn error_of(&self, payload: &[u8]) -> Option<String> {
        let frame = self.read(payload);
        frame.get("code").or(frame.get("o")).and_then(Value::as_str).map(str::to_owned)
    }

    /// Reads to the end: codes of the `error` frames, and the close code (1005: none in the frame; nothing: no
    /// close frame came).
    pub(crate) async fn closed(&mut self) -> (Vec<String>, Option<u16>) {
        let (mut errors, mut code) = (Vec::new(), None);
        loop {
            match self.next().await {
                Got::Frame(1 | 2, payload) => errors.extend(self.error_of(&payload)),
                Got::Frame(8, payload) => {
                    assert_eq!(code, None, "one close, and nothing after it");
                    code = Some(code_of(&payload));
                }
                Got::Frame(..) => {}
                Got::End => return (errors, code),
                // Who answers a close too late is cut off.
                Got::Cut if code.is_some() => return (errors, code),
                Got::Cut => panic!("cut after {errors:?}"),
            }
        }
    }

    /// Reads all that comes until the server closes the connection.
    pub(crate) async fn read_to_end(&mut self) -> String {
        let ended = timeout(DEADLINE, async { while self.more().await {} }).await;
        assert!(ended.is_ok(), "not closed in time; so far: {}", String::from_utf8_lossy(&self.buffer));
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Reads until this text has come; all of what has.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let found = timeout(DEADLINE, async {
            while !String::from_utf8_lossy(&self.buffer).contains(text) {
                assert!(self.more().await, "ended before {text:?} came");
            }
        });
        found.await.expect("it comes in time");
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    /// Reads over the answer to an upgrade request, which must have been granted.
    pub(crate) async fn skip_head(&mut self) {
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// The head of an HTTP answer.
    async fn head(&mut self) -> String {
        let end = timeout(DEADLINE, async {
            loop {
                if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                    return end + 4;
                }
                let so_far = String::from_utf8_lossy(&self.buffer).into_owned();
                assert!(self.more().await, "ended within the head of the answer: {so_far:?}");
            }
        });
        let end = end.await.expect("an answer to the handshake in time");
        let head = self.buffer.drain(..end).collect();
        String::from_utf8(head).unwrap()
    }

    fn read(&self, payload: &[u8]) -> Value {
        match self.format {
            Format::Json => serde_json::from_slice(payload).expect("the server sends JSON"),
            Format::MsgPack => rmp_serde::from_slice(payload).expect("the server sends MessagePack"),
        }
    }

    async fn next_of_server(&mut self) -> Got {
        loop {
            if let Some((header, length)) = header_of(&self.buffer)
                && self.buffer.len() >= header + length
            {
                let payload = self.buffer[header..header + length].to_vec();
                let opcode = self.buffer[0] & 0x0f;
                self.buffer.drain(..header + length);
                return Got::Frame(opcode, payload);
            }
            if !self.more().await {
                assert!(self.buffer.is_empty(), "ended within a frame: {:?}", self.buffer);
                return if self.cut { Got::Cut } else { Got::End };
            }
        }
    }

    async fn more(&mut self) -> bool {
        let read = self.reader.read_buf(&mut self.buffer).await;
        self.cut |= read.is_err();
        matches!(read, Ok(length) if length > 0)
    }
}

/// An upgrade request with more headers, each ending in a line break.
pub(crate) fn upgrade(headers: &str) -> String {
    format!(
        "GET /v1/connect HTTP/1.1\r\nhost: edge\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    )
}

/// Status of an HTTP answer; nothing if there was none.
pub(crate) fn status_of(answer: &str) -> Option<u16> {
    answer.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

/// A masked frame. The mask is all zeros: a mask all the same.
pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..=125 => frame.push(0x80 | length as u8),
        length @ 126..=0xffff => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Lengths of the header and the payload of an unmasked frame, once they are there.
fn header_of(bytes: &[u8]) -> Option<(usize, usize)> {
    let second = *bytes.get(1)?;
    assert_eq!(second & 0x80, 0, "a server doesn't mask");
    match second {
        126 => Some((4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())))),
        127 => Some((10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize)),
        length => Some((2, usize::from(length))),
    }
}

fn code_of(close: &[u8]) -> u16 {
    close.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))
}

/// The few frames that are sent in MessagePack here have few keys.
fn short(frame: &Value) -> Value {
    let keys = [("type", "t"), ("device", "d"), ("room", "r"), ("since", "f"), ("cid", "c"), ("body", "b")];
    let renamed = frame.as_object().unwrap().iter().map(|(key, value)| {
        let short = keys.iter().find(|(long, _)| long == key).map_or(key.as_str(), |(_, short)| short);
        (short.to_owned(), value.clone())
    });
    Value::Object(renamed.collect())
}
