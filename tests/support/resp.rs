//! Redis' protocol, as far as a test needs it: one command, one reply.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// A reply of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// Bytes, or a status.
    Bytes(Vec<u8>),
    /// Several replies.
    List(Vec<Reply>),
    /// An error in Redis' words.
    Error(String),
}

impl Reply {
    /// As text; panics if it is something else.
    pub fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Self::Int(n) => n.to_string(),
            other => panic!("{other:?} is no text"),
        }
    }

    /// As a number; panics if it is something else.
    pub fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::Bytes(_) => self.text().parse().unwrap(),
            other => panic!("{other:?} is no number"),
        }
    }

    /// As a list, nothing being an empty one; panics if it is something else.
    pub fn list(self) -> Vec<Self> {
        match self {
            Self::List(items) => items,
            Self::Nil => Vec::new(),
            other => panic!("{other:?} is no list"),
        }
    }

    /// The bytes; panics if it is something else.
    pub fn bytes(self) -> Vec<u8> {
        match self {
            Self::Bytes(bytes) => bytes,
            other => panic!("{other:?} is no bytes"),
        }
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_))
    }
}

/// Sends one command over a connection of its own and reads its reply.
pub(super) async fn command(addr: &str, args: &[&[u8]]) -> std::io::Result<Reply> {
    let mut stream = BufReader::new(TcpStream::connect(addr).await?);
    let mut request = format!("*{}\r\n", args.len()).into_bytes();
    for arg in args {
        request.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        request.extend_from_slice(arg);
        request.extend_from_slice(b"\r\n");
    }
    stream.write_all(&request).await?;
    read(&mut stream).await
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Reply> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let broken = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no reply of Redis");
    let rest = line.get(1..).ok_or_else(broken)?.trim_end();
    let number = || rest.parse::<i64>().map_err(|_| broken());
    match line.as_bytes()[0] {
        b'+' => Ok(Reply::Bytes(rest.as_bytes().to_vec())),
        b'-' => Ok(Reply::Error(rest.to_owned())),
        b':' => Ok(Reply::Int(number()?)),
        b'$' | b'*' if number()? < 0 => Ok(Reply::Nil),
        b'$' => {
            let mut bytes = vec![0; usize::try_from(number()?).map_err(|_| broken())? + 2];
            stream.read_exact(&mut bytes).await?;
            bytes.truncate(bytes.len() - 2);
            Ok(Reply::Bytes(bytes))
        }
        b'*' => {
            let mut items = Vec::new();
            for _ in 0..number()? {
                items.push(Box::pin(read(stream)).await?);
            }
            Ok(Reply::List(items))
        }
        _ => Err(broken()),
    }
}
