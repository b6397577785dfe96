//! After the upgrade: what breaks the WebSocket protocol itself.
//!
//! Source: RFC 6455, sections 5 (framing) and 7.4 (close codes).

use crate::raw::{BINARY, CLOSE, Got, PING, Raw, TEXT, masked};
use crate::support::{Format, Stack};
use crate::watch::{SLACK, beside};

/// A close frame's payload.
fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes(), reason].concat()
}

/// Frames that RFC 6455 forbids: the connection is closed with the code that says so.
#[tokio::test]
async fn frames_outside_the_rfc_close_the_connection() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let ping = br#"{"type":"ping"}"#;
    let unmasked = [&[TEXT, ping.len() as u8][..], ping].concat();
    let euro = "€".as_bytes();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("an unmasked frame", unmasked, 1002),
        ("the first reserved bit", masked(TEXT | 0x40, ping), 1002),
        ("the second reserved bit", masked(TEXT | 0x20, ping), 1002),
        ("the third reserved bit", masked(TEXT | 0x10, ping), 1002),
        ("a reserved bit in a ping", masked(PING | 0x40, b""), 1002),
        ("a reserved data opcode", masked(0x83, ping), 1002),
        ("a reserved control opcode", masked(0x8b, b""), 1002),
        ("a continuation of nothing", masked(0x80, ping), 1002),
        ("a message within a message", [masked(0x01, b"{"), masked(TEXT, b"{}")].concat(), 1002),
        ("a ping in two parts", masked(PING & 0x0f, b"half"), 1002),
        ("a ping of 126 bytes", masked(PING, &[b'x'; 126]), 1002),
        ("a pong of 126 bytes", masked(0x8a, &[b'x'; 126]), 1002),
        ("a ping of 100,000 bytes", masked(PING, &vec![b'x'; 100_000]), 1009),
        ("a close of 126 bytes", masked(CLOSE, &close(1000, &[b'x'; 124])), 1002),
        ("a close of one byte", masked(CLOSE, &[3]), 1002),
        ("a close with half a character", masked(CLOSE, &close(1000, &euro[..2])), 1007),
        ("the close code 1005", masked(CLOSE, &close(1005, b"")), 1002),
        ("the close code 1006", masked(CLOSE, &close(1006, b"")), 1002),
        ("the close code 1015", masked(CLOSE, &close(1015, b"")), 1002),
        ("the close code 999", masked(CLOSE, &close(999, b"")), 1002),
        ("the close code 0", masked(CLOSE, &close(0, b"")), 1002),
        ("the close code 65535", masked(CLOSE, &close(65_535, b"")), 1002),
        ("text that is no text", masked(TEXT, b"\"\xff\""), 1007),
        ("text that ends within a character", masked(TEXT, &euro[..2]), 1007),
        ("a character that goes wrong over fragments", [masked(1, &euro[..1]), masked(0x80, b"x")].concat(), 1007),
        ("half a surrogate pair in UTF-8", [masked(1, b"\"\xed"), masked(0x80, b"\xa0\x80\"")].concat(), 1007),
        ("bytes where text is due", masked(BINARY, ping), 1003),
        (
            "2^63 announced bytes",
            [&[TEXT, 0xff][..], &[0x7f, 255, 255, 255, 255, 255, 255, 255], &[0; 4]].concat(),
            1009,
        ),
        ("2^64 announced bytes", [&[TEXT, 0xff][..], &[255; 8], &[0; 4]].concat(), 1009),
    ];
    beside(&stack, SLACK, async {
        for (n, (what, bytes, expected)) in cases.iter().enumerate() {
            for welcomed in [true, false] {
                let mut raw = match welcomed {
                    true => Raw::welcomed(&addr, Format::Json, &format!("user{n}")).await,
                    false => Raw::upgraded(&addr, Format::Json).await,
                };
                raw.write(bytes).await;
                let (_, code) = raw.closed().await;
                assert_eq!(code, Some(*expected), "{what}, welcomed: {welcomed}");
            }
        }
    })
    .await;
}

/// What the RFC allows, however odd, is taken.
#[tokio::test]
async fn odd_but_allowed_frames_are_served() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let mut raw = Raw::welcomed(&addr, Format::Json, "odd").await;
        let message = r#"{"type":"send","room":"odd","cid":"c1","body":"é€😀"}"#.as_bytes();
        // Every byte a fragment, so every character is cut; pings in between; and empty fragments.
        let mut fragments = Vec::new();
        for (at, byte) in message.iter().enumerate() {
            fragments.extend(masked(u8::from(at == 0), &[*byte]));
            fragments.extend([masked(PING, b"between"), masked(0, b"")].concat());
        }
        fragments.extend(masked(0x80, b""));
        raw.until_sent(&fragments).await;
        assert_eq!(stack.log("odd").await.last().unwrap().body, "é€😀");
        // A mask that is none of zeros, and lengths written longer than they need be.
        let ping = br#"{"type":"ping","ref":"long"}"#;
        let mask = [1, 2, 3, 4];
        let body: Vec<u8> = ping.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        raw.write(&[&[TEXT, 0xff][..], &(ping.len() as u64).to_be_bytes(), &mask, &body].concat()).await;
        assert_eq!(raw.answer("pong").await["ref"], "long");
        // Pings and pongs that nobody asked for, of the longest length.
        for first in [PING, 0x8a] {
            raw.frame(first, &[0; 125]).await;
        }
        raw.assert_alive().await;
        // A close with a code of its own and the longest reason is answered by the same.
        raw.frame(CLOSE, &close(4999, "é".repeat(61).as_bytes())).await;
        assert_eq!(raw.closed().await, (vec![], Some(4999)));
        let mut raw = Raw::welcomed(&addr, Format::Json, "odd").await;
        raw.frame(CLOSE, b"").await;
        assert_eq!(raw.closed().await, (vec![], Some(1005)));
    })
    .await;
}

/// A message over its limit, in one frame or in fragments, in whatever rhythm: 1009, and the client hears
/// it although it is still writing.
#[tokio::test]
async fn messages_without_end_are_too_large() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let expected = (vec!["too_large".to_owned()], 1009);
        for format in [Format::Json, Format::MsgPack] {
            let first = if format == Format::Json { TEXT } else { BINARY };
            // A limit's length is fine, one byte more is not.
            let mut exact = Raw::welcomed(&addr, format, "exact").await;
            exact.frame(first, &vec![b' '; 65_536]).await;
            assert_eq!(exact.error().await, "bad_frame");
            exact.assert_alive().await;
            exact.frame(first, &vec![b' '; 65_537]).await;
            assert_eq!(exact.close_frame().await, expected);
            assert_eq!(exact.next().await, Got::End, "not cut");

            let mut whole = Raw::welcomed(&addr, format, "whole").await;
            whole.frame(first, &vec![b'x'; 8 << 20]).await;
            assert_eq!(whole.close_frame().await, expected);
            assert_eq!(whole.next().await, Got::End, "not cut");

            let mut parts = Raw::welcomed(&addr, format, "parts").await;
            let mut writer = parts.take_writer();
            let endless = tokio::spawn(async move {
                use tokio::io::AsyncWriteExt as _;
                let mut frame = masked(first & 0x0f, &[b'x'; 1_000]);
                while writer.write_all(&frame).await.is_ok() {
                    frame[0] = 0;
                }
            });
            assert_eq!(parts.close_frame().await, expected);
            assert_eq!(parts.next().await, Got::End, "not cut");
            drop(parts);
            endless.await.unwrap();
        }
    })
    .await;
}
