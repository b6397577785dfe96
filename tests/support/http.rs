//! The requests that tests make themselves.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::DEADLINE;

/// `GET path` at `addr` with these headers: status and body; status 0 if nobody answers.
pub async fn get(addr: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    request(addr, "GET", path, headers, "").await
}

/// `POST path` at `addr` with these headers and this JSON: status and body; status 0 if nobody answers.
pub async fn post(addr: &str, path: &str, headers: &[(&str, &str)], json: &str) -> (u16, String) {
    request(addr, "POST", path, headers, json).await
}

async fn request(addr: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if !body.is_empty() {
        more.push_str("content-type: application/json\r\n");
    }
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\ncontent-length: {length}\r\n{more}\r\n{body}"
    );
    let answered = tokio::time::timeout(DEADLINE, async {
        let mut stream = TcpStream::connect(addr).await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok()?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    });
    answered.await.ok().flatten().unwrap_or_default()
}
