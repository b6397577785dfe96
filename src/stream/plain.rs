//! Plain connections, whose answers are read where they lie.
//!
//! # Design
//! fred makes a tree of some twenty values of every entry, and begins an answer that came in part from its start.
//! Where many entries are read (scans of the log, the blocking reads of groups) that was most of what they cost, so
//! these have connections of their own. To a cluster, or over TLS, they go through fred like everything else.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use fred::error::{Error, ErrorKind};
use fred::types::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::resp::{answer_len, line};
use crate::config::RedisSettings;
use crate::error::Result;

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;

/// The server that plain connections go to.
pub(super) struct Server {
    config: Config,
    connect_timeout: Duration,
    timeout: Duration,
}

/// A connection that asks one thing after the other. Whoever does not read an answer to its end must not use it again.
pub(super) struct Connection {
    tcp: TcpStream,
    buffer: BytesMut,
    /// Bytes of the last answer: the next one is about as long.
    answered: usize,
}

impl Server {
    /// That of these settings; nothing: it is a cluster, or behind TLS.
    pub(super) fn of(config: Config, settings: &RedisSettings) -> Option<Self> {
        if config.server.is_clustered() || config.tls.is_some() || config.server.hosts().len() != 1 {
            return None;
        }
        let (connect_timeout, timeout) = (*settings.connect_timeout, *settings.command_timeout);
        Some(Self { config, connect_timeout, timeout })
    }

    /// How long a command may take that doesn't block.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connection, Error> {
        within(self.connect_timeout.min(self.timeout), self.open()).await
    }

    async fn open(&self) -> Result<Connection, Error> {
        let server = self.config.server.hosts().pop().ok_or_else(|| broken("no server is named"))?;
        let tcp = TcpStream::connect((server.host.to_string(), server.port)).await?;
        tcp.set_nodelay(true)?;
        let mut connection = Connection { tcp, buffer: BytesMut::new(), answered: 0 };
        let (user, password) = (self.config.username.as_deref(), self.config.password.as_deref());
        match (user, password) {
            (Some(user), Some(password)) => connection.settle(&["AUTH", user, password]).await?,
            (None, Some(password)) => connection.settle(&["AUTH", password]).await?,
            (_, None) => {}
        }
        if let Some(database) = self.config.database.filter(|database| *database > 0) {
            connection.settle(&["SELECT", &database.to_string()]).await?;
        }
        Ok(connection)
    }
}

impl Connection {
    /// Sends a command that is answered by one line.
    async fn settle(&mut self, words: &[&str]) -> Result<(), Error> {
        self.send(words).await?;
        loop {
            if let Some((answer, len)) = line(&self.buffer)? {
                let refused = answer.strip_prefix(b"-").map(refusal);
                self.buffer.advance(len);
                return refused.map_or(Ok(()), Err);
            }
            self.read().await?;
        }
    }

    /// Sends a command that is answered by a list, and says how many items follow; nothing: the answer is nil.
    pub(super) async fn ask(&mut self, words: &[&str]) -> Result<Option<u64>, Error> {
        self.send(words).await?;
        self.buffer.reserve(self.answered);
        loop {
            if let Some((answer, len)) = line(&self.buffer)? {
                let items = answer_len(answer);
                self.buffer.advance(len);
                return items;
            }
            self.read().await?;
        }
    }

    /// What has come and was not taken.
    pub(super) fn come(&self) -> &[u8] {
        &self.buffer
    }

    /// Takes the rest of an answer out, which is so long.
    pub(super) fn take(&mut self, len: usize) -> Bytes {
        self.answered = len;
        self.buffer.split_to(len).freeze()
    }

    /// Waits for more to come.
    pub(super) async fn read(&mut self) -> Result<(), Error> {
        self.buffer.reserve(READ_BYTES);
        match self.tcp.read_buf(&mut self.buffer).await? {
            0 => Err(Error::new(ErrorKind::IO, "the server ended the connection")),
            _ => Ok(()),
        }
    }

    async fn send(&mut self, words: &[&str]) -> Result<(), Error> {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        Ok(self.tcp.write_all(command.as_bytes()).await?)
    }
}

/// An answer, if it comes in time.
pub(super) async fn within<T>(time: Duration, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(time, answer).await;
    answer.unwrap_or_else(|_| Err(Error::new(ErrorKind::Timeout, "no answer in time")))
}

/// What the server said instead of doing what it was asked.
pub(super) fn refusal(words: &[u8]) -> Error {
    Error::new(ErrorKind::Unknown, String::from_utf8_lossy(words).into_owned())
}

/// What came is no answer.
pub(super) fn broken(what: &'static str) -> Error {
    Error::new(ErrorKind::Protocol, what)
}
