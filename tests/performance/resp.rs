//! A pipelining client of Redis that only writes commands and counts replies, and one that waits for each.

use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// One command as Redis reads it. Source: Redis docs, RESP.
pub(crate) fn command(args: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        out.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        out.extend_from_slice(arg);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// A connection.
pub(crate) struct Pipe(BufReader<TcpStream>);

impl Pipe {
    pub(crate) async fn connect(addr: &str) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(64 << 10, stream))
    }

    pub(crate) async fn write(&mut self, commands: &[u8]) {
        self.0.write_all(commands).await.unwrap();
    }

    /// Reads a reply, of whatever form, and gives the lengths of its lists as they come; an error ends the run.
    pub(crate) async fn reply(&mut self) -> Vec<i64> {
        let mut open = 1;
        let mut lists = Vec::new();
        let mut line = Vec::new();
        while open > 0 {
            open -= 1;
            line.clear();
            self.0.read_until(b'\n', &mut line).await.unwrap();
            assert_ne!(line[0], b'-', "{}", String::from_utf8_lossy(&line));
            let number = || String::from_utf8_lossy(&line[1..]).trim().parse::<i64>().unwrap();
            match line[0] {
                b'$' if number() >= 0 => self.skip(usize::try_from(number()).unwrap() + 2).await,
                b'*' if number() >= 0 => {
                    open += number();
                    lists.push(number());
                }
                _ => {}
            }
        }
        lists
    }

    /// Reads the reply of an XREAD of one stream, and gives how many entries it has: streams, then name and entries,
    /// then the entries.
    pub(crate) async fn entries(&mut self) -> i64 {
        self.reply().await.get(2).copied().unwrap_or(0)
    }

    async fn skip(&mut self, mut bytes: usize) {
        let mut scratch = [0; 4096];
        while bytes > 0 {
            let most = bytes.min(scratch.len());
            self.0.read_exact(&mut scratch[..most]).await.unwrap();
            bytes -= most;
        }
    }

    /// Writes what `next` makes, `window` commands at most without a reply, until `end`; gives how many were answered.
    pub(crate) async fn pump(&mut self, window: usize, end: Instant, mut next: impl FnMut() -> Vec<u8>) -> u64 {
        let (mut waiting, mut answered) = (0, 0);
        loop {
            let mut out = Vec::new();
            while waiting < window && Instant::now() < end {
                out.extend(next());
                waiting += 1;
            }
            if !out.is_empty() {
                self.write(&out).await;
            }
            if waiting == 0 {
                return answered;
            }
            // All replies that are here, before anything is written again.
            loop {
                self.reply().await;
                waiting -= 1;
                answered += 1;
                if waiting == 0 || self.0.buffer().is_empty() {
                    break;
                }
            }
        }
    }
}
