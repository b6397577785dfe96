//! Before the upgrade: what is no handshake, what is half of one, and what is too much of one.

use serde_json::json;

use crate::raw::{Got, Raw, TEXT, masked, status_of, upgrade};
use crate::support::{Format, Stack, get, token};
use crate::watch::{SLACK, beside, connections_at_most};

/// Everything but an upgrade is answered in HTTP, or with the end of the connection.
#[tokio::test]
async fn what_is_no_upgrade_is_refused() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "1s").start().await;
    let addr = stack.addr("edge").to_owned();
    let good = upgrade("");
    let cases: [(&str, String, &[u16]); 14] = [
        ("plain GET", "GET /v1/connect HTTP/1.1\r\nhost: edge\r\n\r\n".into(), &[400]),
        ("POST", good.replacen("GET", "POST", 1), &[400]),
        ("POST with a body", good.replacen("GET", "POST", 1).replacen("host", "content-length: 9\r\nhost", 1), &[400]),
        ("another method", good.replacen("GET", "BREW", 1), &[400]),
        ("HTTP/1.0", good.replacen("HTTP/1.1", "HTTP/1.0", 1), &[400]),
        ("HTTP/0.9", "GET /v1/connect\r\n\r\n".into(), &[400]),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), &[]),
        ("an old version", good.replacen("version: 13", "version: 8", 1), &[400]),
        ("no key", good.replacen("sec-websocket-key", "x-key", 1), &[400]),
        ("no host and no sense", "GET /v1/connect HTTP/1.1\r\n\u{1}: \u{2}\r\n\r\n".into(), &[400]),
        ("a line break in a path", "GET /v1/\rconnect HTTP/1.1\r\n\r\n".into(), &[400]),
        ("two lengths", "POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".into(), &[400]),
        ("garbage", "\u{0}\u{1}\u{16}\u{3}\u{1} hello there, general\r\n\r\n".into(), &[400]),
        ("an encrypted hello", "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\n\n\n".into(), &[400]),
    ];
    beside(&stack, SLACK, async {
        for (what, request, expected) in cases {
            let mut raw = Raw::tcp(&addr).await;
            raw.write(request.as_bytes()).await;
            // An answered connection may be used again: it ends with its time-out.
            let answer = raw.read_to_end().await;
            // HTTP/1 has no answer to HTTP/2 but the end of the connection.
            assert_eq!(status_of(&answer).as_slice(), expected, "{what}: {answer:?}");
        }
    })
    .await;
}

/// A client that never ends its header, one byte at a time or not at all, is not waited for.
#[tokio::test]
async fn half_a_header_is_closed_at_the_time_out() {
    let stack = Stack::builder()
        .env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "1s")
        .env("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "0")
        .start()
        .await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut half = Raw::tcp(&addr).await;
        half.write(b"GET /v1/connect HTTP/1.1\r\nhost: edge\r\nx-slow: ").await;
        let mut drops = Raw::tcp(&addr).await;
        let mut writer = drops.take_writer();
        let dripping = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt as _;
            for byte in b"GET /v1/connect HTTP/1.1\r\nhost: edge\r\nx-slow: ".iter().chain(std::iter::repeat(&b'a')) {
                if writer.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        let nothing = Raw::tcp(&addr).await;
        for mut raw in [half, drops, nothing] {
            let answer = raw.read_to_end().await;
            assert!(answer.is_empty() || status_of(&answer) == Some(408), "{answer:?}");
        }
        dripping.await.unwrap();
    })
    .await;
}

/// Headers beyond `limits.header_bytes`, and more of them than anybody needs.
#[tokio::test]
async fn headers_without_end_are_refused() {
    let stack = Stack::builder().env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "1s").start().await;
    let addr = stack.addr("edge").to_owned();
    let long = |name: &str, bytes: usize| upgrade(&format!("{name}: {}\r\n", "a".repeat(bytes)));
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let path = format!("GET /{} HTTP/1.1\r\nhost: edge\r\n\r\n", "p".repeat(1 << 20));
    let cases = [
        ("1 MB in one header", long("x-long", 1 << 20)),
        ("1 MB of cookies", long("cookie", 1 << 20)),
        ("20 kB of token", long("authorization: Bearer", 20_000)),
        ("500 headers", upgrade(&many)),
        ("1 MB of path", path),
        ("1 MB without a line break", "a".repeat(1 << 20)),
    ];
    beside(&stack, SLACK, async {
        for _ in 0..5 {
            for (what, request) in &cases {
                let mut raw = Raw::tcp(&addr).await;
                let all = raw.write(request.as_bytes()).await;
                let answer = raw.read_to_end().await;
                let status = status_of(&answer);
                // Who is still writing when the answer comes may be cut off before it reads it.
                let cut = status.is_none() && (!all || request.len() > 100_000);
                assert!(cut || matches!(status, Some(400 | 414 | 431)), "{what}: {answer:?}");
            }
        }
    })
    .await;
}

/// A thousand connections that say nothing, before the upgrade and after it; everybody else is served.
#[tokio::test]
async fn a_thousand_silent_connections_are_closed() {
    let stack = Stack::builder()
        .env("MILLSTREAM__EDGE__HELLO_TIMEOUT", "3s")
        .env("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "0")
        .start()
        .await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, 2 * SLACK, async {
        let mut silent = Vec::new();
        for _ in 0..500 {
            silent.push(Raw::tcp(&addr).await);
        }
        for mut raw in silent {
            assert_eq!(raw.read_to_end().await, "");
        }
        let mut upgraded = Vec::new();
        for n in 0..500 {
            let format = if n % 2 == 0 { Format::Json } else { Format::MsgPack };
            upgraded.push(Raw::upgraded(&addr, format).await);
        }
        for mut raw in upgraded {
            let (errors, code) = raw.closed().await;
            assert_eq!((errors.len(), code), (0, Some(4001)));
        }
    })
    .await;
    connections_at_most(&stack, 0.0).await;
}

/// What comes with the handshake in one packet is not lost, and what isn't `hello` ends it.
#[tokio::test]
async fn the_first_frame_is_hello_or_the_last() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let hello = json!({ "type": "hello", "token": token("alice", &[("*", "rw")]), "device": "d" }).to_string();
    beside(&stack, SLACK, async {
        let mut eager = Raw::tcp(&addr).await;
        let mut bytes = upgrade("").into_bytes();
        bytes.extend(masked(TEXT, hello.as_bytes()));
        bytes.extend(masked(TEXT, br#"{"type":"ping"}"#));
        eager.write(&bytes).await;
        let answer = eager.until("pong").await;
        assert!(answer.contains("101 Switching Protocols") && answer.contains("welcome"), "{answer:?}");

        let before_hello = [
            (r#"{"type":"ping"}"#, "bad_frame"),
            (r#"{"type":"send","room":"r","cid":"c","body":1}"#, "bad_frame"),
            (r#"{"type":"dance"}"#, "unknown_type"),
            ("{", "bad_frame"),
            (r#"{"type":"hello","token":"x","device":"a\u0000b"}"#, "bad_frame"),
            (r#"{"type":"hello","token":7}"#, "bad_frame"),
        ];
        for (frame, code) in before_hello {
            let mut raw = Raw::upgraded(&addr, Format::Json).await;
            raw.payload(frame.as_bytes()).await;
            assert_eq!(raw.closed().await, (vec![code.to_owned()], Some(4001)), "{frame}");
        }
        let mut wrong = Raw::upgraded(&addr, Format::MsgPack).await;
        wrong.frame(TEXT, hello.as_bytes()).await;
        assert_eq!(wrong.closed().await, (vec![], Some(1003)));
        let mut closes = Raw::upgraded(&addr, Format::Json).await;
        closes.frame(crate::raw::CLOSE, &1000u16.to_be_bytes()).await;
        assert_eq!(closes.next().await, Got::Frame(8, 1000u16.to_be_bytes().to_vec()));
        assert_eq!(closes.next().await, Got::End);
    })
    .await;
    assert_eq!(get(&addr, "/livez", &[]).await.0, 200);
}
