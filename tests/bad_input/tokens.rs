//! Tokens that are not ours, not for us, not now, or too many: refused alike in every place where a
//! token may stand.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

use crate::raw::{Raw, TEXT, masked, status_of, upgrade};
use crate::support::{Format, SECRET, Stack, now_s, token, token_of};
use crate::watch::{SLACK, beside};

/// A token with any header, signed with HMAC and SHA-256.
fn signed(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// The answer to an upgrade request with these headers.
async fn status(addr: &str, headers: &str) -> u16 {
    let mut raw = Raw::tcp(addr).await;
    raw.write(upgrade(headers).as_bytes()).await;
    let answer = raw.until("\r\n\r\n").await;
    status_of(&answer).unwrap_or_else(|| panic!("{answer:?}"))
}

/// The user of the `welcome` after an upgrade with these headers and a `hello` with this token.
async fn welcomed_as(addr: &str, headers: &str, hello: Option<&str>) -> (Raw, Value) {
    let mut raw = Raw::tcp(addr).await;
    raw.write(upgrade(headers).as_bytes()).await;
    raw.skip_head().await;
    raw.send(&json!({ "type": "hello", "token": hello })).await;
    let welcome = raw.answer("welcome").await;
    (raw, welcome)
}

/// Every way to be wrong, in `hello`, in the header and as a subprotocol.
#[tokio::test]
async fn a_token_that_is_not_right_opens_nothing() {
    let stack = Stack::builder()
        .env("MILLSTREAM__AUTH__AUDIENCE", "millstream")
        .env("MILLSTREAM__AUTH__ISSUER", "login")
        .start()
        .await;
    let addr = stack.addr("edge").to_owned();
    let good = json!({ "sub": "eve", "exp": now_s() + 3_600, "aud": "millstream", "iss": "login" });
    let but = |name: &str, value: Value| {
        let mut claims = good.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        token_of(&claims, SECRET)
    };
    let alg = |alg: &str| signed(&json!({ "alg": alg, "typ": "JWT" }), &good);
    let unsigned = |alg: &str| alg_cut(&signed(&json!({ "alg": alg, "typ": "JWT" }), &good));
    let ours = token_of(&good, SECRET);
    let (header, rest) = ours.split_once('.').unwrap();
    let cases = [
        ("no algorithm", unsigned("none")),
        ("no algorithm, in capitals", unsigned("NONE")),
        ("no algorithm with a signature", alg("none")),
        ("HS384", alg("HS384")),
        ("HS512", alg("HS512")),
        ("RS256 signed with the secret", alg("RS256")),
        ("ES256 signed with the secret", alg("ES256")),
        ("an algorithm in small letters", alg("hs256")),
        ("no signature", alg_cut(&ours)),
        ("another secret", token_of(&good, "another-secret-that-is-long-enough-too")),
        ("another header than was signed", format!("{}.{rest}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#))),
        ("other claims than were signed", format!("{header}.{}.{}", URL_SAFE_NO_PAD.encode(r#"{"sub":"root"}"#), "x")),
        ("what must be understood and isn't", signed(&json!({ "alg": "HS256", "crit": ["exp"] }), &good)),
        ("another audience", but("aud", json!("them"))),
        ("no audience", but("aud", Value::Null)),
        ("another issuer", but("iss", json!("evil"))),
        ("no issuer", but("iss", Value::Null)),
        ("expired by 31 s", but("exp", json!(now_s() - 31))),
        ("expired long ago", but("exp", json!(0))),
        ("expired before time", but("exp", json!(-1))),
        ("not valid yet", but("nbf", json!(now_s() + 300))),
        ("no end", but("exp", Value::Null)),
        ("an end that is text", but("exp", json!("tomorrow"))),
        ("nobody", but("sub", Value::Null)),
        ("nobody by name", but("sub", json!(""))),
        ("a user of 65 bytes", but("sub", json!("u".repeat(65)))),
        ("a user with U+0000", but("sub", json!("a\u{0}b"))),
        ("a user that is a number", but("sub", json!(7))),
        ("a sender type of its own", but("sender_type", json!("admin"))),
        ("rights that are none", but("rooms", json!(["*"]))),
        ("two tokens in one", format!("{ours}.{ours}")),
        ("a token with white space", format!("{header} .{rest}")),
        ("20 kB", but("pad", json!("x".repeat(15_000)))),
    ];
    for (what, token) in &cases {
        let mut raw = Raw::upgraded(&addr, Format::Json).await;
        raw.send(&json!({ "type": "hello", "token": token, "device": "d" })).await;
        assert_eq!(raw.closed().await, (vec!["unauthorized".to_owned()], Some(4500)), "{what}");
        // What is too long for a header is refused as that.
        let expected: &[u16] = if token.len() > 16_000 { &[431] } else { &[401] };
        let bearer = status(&addr, &format!("authorization: Bearer {token}\r\n")).await;
        assert!(expected.contains(&bearer), "{what}: {bearer}");
        let offered = format!("sec-websocket-protocol: millstream.v1.json, bearer.{token}\r\n");
        let offered = status(&addr, &offered).await;
        assert!(expected.contains(&offered), "{what}: {offered}");
    }
    assert_eq!(status(&addr, &format!("authorization: Bearer {ours}\r\n")).await, 101);
    let err = stack.process("edge").stderr();
    assert!(!cases.iter().any(|(_, token)| err.contains(token.as_str())), "no token is logged");
}

/// The leeway is for clocks that differ: a token that ended within it is let in, and works.
#[tokio::test]
async fn a_token_within_the_leeway_works_until_the_leeway_is_over() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        let ended = json!({ "sub": "late", "exp": now_s() - 15, "rooms": { "*": "rw" } });
        let (mut raw, welcome) = welcomed_as(&addr, "", Some(&token_of(&ended, SECRET))).await;
        assert_eq!(welcome["expires_at"], ended["exp"].as_u64().unwrap() * 1_000, "it says what the token says");
        raw.assert_alive().await;
        raw.until_sent(&masked(TEXT, br#"{"type":"send","room":"late","cid":"c","body":1}"#)).await;
        assert_eq!(raw.closed().await, (vec!["unauthorized".to_owned()], Some(4500)));
        assert!(now_s() >= ended["exp"].as_u64().unwrap() + 30, "not before the leeway was over");
    })
    .await;
}

/// Several tokens at once: each must be good, and `hello` has the last word.
#[tokio::test]
async fn of_several_tokens_each_must_be_good() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    let of = |user: &str| token(user, &[(user, "rw")]);
    let header = |token: &str| format!("authorization: Bearer {token}\r\n");
    let offer = |token: &str| format!("sec-websocket-protocol: millstream.v1.json, bearer.{token}\r\n");
    beside(&stack, SLACK, async {
        let all = header(&of("header")) + &offer(&of("offer"));
        let (mut raw, welcome) = welcomed_as(&addr, &all, Some(&of("hello"))).await;
        assert_eq!(welcome["user"], "hello");
        // The rights are those of the token that counts, never of all together.
        raw.until_sent(&masked(TEXT, br#"{"type":"send","room":"hello","cid":"c","body":1}"#)).await;
        for room in ["header", "offer"] {
            raw.send(&json!({ "type": "send", "room": room, "cid": room, "body": 1 })).await;
            assert_eq!(raw.error().await, "forbidden");
        }
        let (_raw, welcome) = welcomed_as(&addr, &all, None).await;
        assert_eq!(welcome["user"], "header");
        let (_raw, welcome) = welcomed_as(&addr, &offer(&of("offer")), None).await;
        assert_eq!(welcome["user"], "offer");

        let (good, bad) = (of("good"), "bad");
        for headers in [
            header(bad) + &offer(&good),
            header(&good) + &offer(bad),
            header(&good) + &header(bad),
            header(bad) + &header(&good),
            header(&good) + &header(&good),
            offer(&good) + &offer(bad),
            format!("sec-websocket-protocol: bearer.{good}, millstream.v1.json, bearer.{good}\r\n"),
            format!("authorization: Basic {good}\r\n"),
            format!("authorization: {good}\r\n"),
            "authorization: Bearer\r\n".into(),
            "authorization: Bearer \r\n".into(),
            "authorization: Bearer \u{e9}\r\n".into(),
            "sec-websocket-protocol: millstream.v1.json, bearer.\r\n".into(),
        ] {
            assert_eq!(status(&addr, &headers).await, 401, "{headers}");
        }
        let mut raw = Raw::tcp(&addr).await;
        raw.write(upgrade(&header(&good)).as_bytes()).await;
        raw.skip_head().await;
        raw.send(&json!({ "type": "hello", "token": bad })).await;
        assert_eq!(raw.closed().await, (vec!["unauthorized".to_owned()], Some(4500)), "a good one before saves none");
    })
    .await;
}

/// What a frame says about who and when is ignored: the token and the log know better.
#[tokio::test]
async fn what_a_frame_claims_about_its_sender_is_ignored() {
    let stack = Stack::start().await;
    let addr = stack.addr("edge").to_owned();
    beside(&stack, SLACK, async {
        for format in [Format::Json, Format::MsgPack] {
            let room = format!("forged{format:?}");
            let mut client = stack.client_at("edge", format, "alice", "phone").await;
            client.join(&room, json!("start")).await;
            let forged = json!({
                "type": "send", "room": room, "cid": "c1", "body": { "user": "root" }, "user": "root", "device": "tank",
                "seq": 999, "id": "1-1", "at": 1, "sender_type": "system", "duplicate": true, "event": "room_closed",
            });
            client.send_frame(&forged).await;
            let sent = client.expect_in("sent", &room).await;
            assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(1), &json!(false)));
            client.delivered_up_to(&room, 1).await;
            let account = client.account(&room);
            let message = account.iter().find(|entry| entry["type"] == "message").unwrap();
            assert_eq!((&message["user"], &message["device"]), (&json!("alice"), &json!("phone")), "{message}");
            assert_eq!((&message["id"], message.get("sender_type")), (&sent["id"], None), "{message}");
            assert_ne!(sent["id"], "1-1");
            // Frames that only a server says are no requests.
            for kind in ["message", "event", "sent", "welcome", "joined", "replay", "live", "left", "receipt", "bye"] {
                client.send_frame(&json!({ "type": kind, "room": room, "seq": 9, "user": "root" })).await;
                client.expect_error("unknown_type").await;
            }
            let mut raw = Raw::welcomed(&addr, format, "alice").await;
            raw.send(&json!({ "type": "hello", "token": token("root", &[("*", "rw")]) })).await;
            assert_eq!(raw.error().await, "bad_frame", "nobody becomes another by a second hello");
        }
    })
    .await;
}

fn alg_cut(token: &str) -> String {
    token[..=token.rfind('.').unwrap()].to_owned()
}
