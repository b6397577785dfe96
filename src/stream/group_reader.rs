//! The blocking reads of a group.
//!
//! # Design
//! What a group reads is all of the log, so its entries are read where they lie, over a plain connection (see
//! `plain`). A connection that failed is given up, and the next read makes another one.

use std::time::Duration;

use fred::error::Error as FredError;

use super::connection::BLOCK_SLACK;
use super::failure::failed;
use super::group::millis;
use super::link::config;
use super::plain::{Connection, Server, within};
use super::resp::Found;
use super::resp::{Stream, entries, next_entry, next_stream};
use super::{RawEntry, Reader, Redis};
use crate::error::Result;

/// What a read brought: streams, and their entries.
type Read = Vec<(String, Vec<RawEntry>)>;

/// A connection of its own for the blocking reads of one group.
///
/// It takes `&mut self` to read, so that nothing can queue behind a blocked command.
pub struct GroupReader(Way);

enum Way {
    Plain {
        server: Box<Server>,
        connection: Option<Connection>,
    },
    /// A cluster, where a reader reads one partition ([`Redis::is_cluster`]), or TLS.
    Fred(Reader),
}

impl Redis {
    /// A connection of its own for the blocking reads of a group, which block for `block` at most.
    ///
    /// # Errors
    /// As [`Redis::another`].
    pub async fn group_reader(&self, block: Duration) -> Result<GroupReader> {
        Ok(GroupReader(match Server::of(config(self.settings(), None)?, self.settings()) {
            Some(server) => Way::Plain { server: Box::new(server), connection: None },
            None => Way::Fred(self.reader(block).await?),
        }))
    }
}

impl GroupReader {
    /// What was not yet delivered to the group in any of these streams, `count` of each at most,
    /// waiting up to `block` for the first. An empty answer means that the time was up.
    ///
    /// Dropping the future may leave entries pending under our name unseen, and so may an error:
    /// read your own pending entries ([`Redis::read_group`]) before the next call.
    ///
    /// # Errors
    /// [`Kind::NoGroup`](crate::error::Kind::NoGroup) if any of the streams lacks the group; otherwise as Redis answers.
    pub async fn read_group(
        &mut self,
        group: &str,
        consumer: &str,
        keys: &[String],
        count: u64,
        block: Duration,
    ) -> Result<Read> {
        let (server, connection) = match &mut self.0 {
            Way::Plain { server, connection } => (server, connection),
            Way::Fred(reader) => return reader.read_group(group, consumer, keys, count, block).await,
        };
        let (count, ms) = (count.to_string(), millis(block).max(1).to_string());
        let mut words = vec!["XREADGROUP", "GROUP", group, consumer, "COUNT", &count, "BLOCK", &ms, "STREAMS"];
        words.extend(keys.iter().map(String::as_str));
        words.extend(keys.iter().map(|_| ">"));
        let read = async {
            // One whose read failed or was dropped is not there any more: its answer may still be on the way.
            let mut used = match connection.take() {
                Some(kept) => kept,
                None => server.connect().await?,
            };
            let read = within(block + BLOCK_SLACK, read(&mut used, &words)).await?;
            *connection = Some(used);
            Ok(read)
        };
        read.await.map_err(|e| failed("read as a group", e))
    }
}

async fn read(connection: &mut Connection, words: &[&str]) -> Result<Read, FredError> {
    let streams = connection.ask(words).await?.unwrap_or(0);
    let (mut at, mut found) = (0, Vec::new());
    for _ in 0..streams {
        let Stream { key, entries, len } = loop {
            if let Some(stream) = next_stream(&connection.come()[at..])? {
                break stream;
            }
            connection.read().await?;
        };
        at += len;
        let begin = at;
        for _ in 0..entries {
            at += loop {
                if let Found::Entry(shown) = next_entry(&connection.come()[at..])? {
                    break shown.len;
                }
                connection.read().await?;
            };
        }
        found.push((key, begin..at));
    }
    let answer = connection.take(at);
    found.into_iter().map(|(key, at)| Ok((key, entries(&answer.slice(at))?))).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::config::{RedisSettings, Secret};
    use crate::model::EntryId;

    const ANSWER: &str = "*2\r\n*2\r\n$1\r\na\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$1\r\nr\r\n$2\r\n\r\n\r\n\
        *2\r\n$3\r\n1-1\r\n*4\r\n$1\r\nr\r\n$1\r\nx\r\n$3\r\nfoo\r\n$0\r\n\r\n\
        *2\r\n$1\r\nb\r\n*1\r\n*2\r\n$3\r\n2-7\r\n*2\r\n$1\r\ns\r\n$1\r\n9\r\n";

    async fn pair() -> (GroupReader, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Secret::new(format!("redis://{}", listener.local_addr().unwrap()));
        let settings = RedisSettings { url, ..RedisSettings::default() };
        let server = Box::new(Server::of(config(&settings, None).unwrap(), &settings).unwrap());
        (GroupReader(Way::Plain { server, connection: None }), listener)
    }

    async fn read(reader: &mut GroupReader) -> Result<Read> {
        let keys = ["a".to_owned(), "b".to_owned()];
        reader.read_group("g", "c", &keys, 10, Duration::from_secs(20)).await
    }

    async fn say(to: &mut TcpStream, text: &str, piece: usize) {
        to.set_nodelay(true).unwrap();
        for piece in text.as_bytes().chunks(piece) {
            to.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn an_answer_is_read_however_it_comes() {
        let (mut reader, listener) = pair().await;
        let server = tokio::spawn(async move {
            let mut tcp = listener.accept().await.unwrap().0;
            for piece in [1, 3, 7, 1_000] {
                say(&mut tcp, ANSWER, piece).await;
                say(&mut tcp, "*-1\r\n", piece).await;
            }
            tcp
        });
        for _ in 0..4 {
            let found = read(&mut reader).await.unwrap();
            let ids = |nth: usize| found[nth].1.iter().map(|raw: &RawEntry| raw.id).collect::<Vec<_>>();
            assert_eq!((found.len(), &*found[0].0, &*found[1].0), (2, "a", "b"));
            assert_eq!((ids(0), ids(1)), (vec![EntryId::new(1, 0), EntryId::new(1, 1)], vec![EntryId::new(2, 7)]));
            let raw = &found[0].1;
            assert_eq!(
                (raw[0].text("r"), raw[1].text("foo"), found[1].1[0].text("s")),
                (Some("\r\n"), Some(""), Some("9"))
            );
            assert!(read(&mut reader).await.unwrap().is_empty(), "nil is no entries");
        }
        server.await.unwrap();
    }

    /// What a read that was given up is still answered must not be taken for the answer to the next one.
    #[tokio::test]
    async fn after_an_error_another_connection_is_used() {
        let (mut reader, listener) = pair().await;
        let server = tokio::spawn(async move {
            let mut kept = Vec::new();
            for answer in ["-NOGROUP no such group\r\n", "*1\r\n$1\r\n", "*2\r\n*2\r\n$1\r\na\r\n", ANSWER] {
                let mut tcp = listener.accept().await.unwrap().0;
                say(&mut tcp, answer, 1_000).await;
                // The third ends within its answer, and the next read finds that out.
                if answer.starts_with("*2") && answer != ANSWER {
                    continue;
                }
                kept.push(tcp);
            }
            kept
        });
        assert_eq!(read(&mut reader).await.unwrap_err().kind(), crate::error::Kind::NoGroup);
        for _ in 0..2 {
            assert_eq!(read(&mut reader).await.unwrap_err().kind(), crate::error::Kind::RedisUnavailable);
        }
        assert_eq!(read(&mut reader).await.unwrap().len(), 2);
        server.await.unwrap();
    }

    #[tokio::test]
    async fn a_read_that_was_dropped_takes_its_connection_with_it() {
        let (mut reader, listener) = pair().await;
        let first = {
            let mut reading = std::pin::pin!(read(&mut reader));
            tokio::select! {
                _ = &mut reading => panic!("nobody has answered"),
                accepted = listener.accept() => accepted.unwrap().0,
            }
        };
        let server = tokio::spawn(async move {
            let mut tcp = listener.accept().await.unwrap().0;
            say(&mut tcp, ANSWER, 1_000).await;
            tcp
        });
        assert_eq!(read(&mut reader).await.unwrap().len(), 2);
        drop((first, server.await.unwrap()));
    }
}
