//! The management API: wrong keys, bodies too large or too deep, and requests that are none. Every refusal
//! is JSON with a code.

use serde_json::Value;

use crate::raw::{Raw, status_of};
use crate::support::{API_KEY, Stack, get, post};
use crate::watch::resident;

const MESSAGES: &str = "/api/v1/rooms/hall/messages";

/// Code of an error of the API.
fn code(answer: &(u16, String)) -> (u16, String) {
    let error: Value = serde_json::from_str(&answer.1).unwrap_or_else(|e| panic!("{answer:?}: {e}"));
    assert!(!error["error"]["message"].as_str().unwrap().is_empty(), "{answer:?}");
    (answer.0, error["error"]["code"].as_str().unwrap().to_owned())
}

/// Everything that is not the key, however near.
#[tokio::test]
async fn only_the_key_opens_the_api() {
    let stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let api = stack.addr("api");
    let body = r#"{"body":1}"#;
    let (prefix, longer) = (&API_KEY[..API_KEY.len() - 1], format!("{API_KEY}x"));
    let (upper, spaced) = (API_KEY.to_uppercase(), format!("{API_KEY} {API_KEY}"));
    for wrong in ["", "x", prefix, &API_KEY[1..], &longer, &upper, &spaced, "*", "null", &"k".repeat(4_000)] {
        for call in [MESSAGES, "/api/v1/rooms/hall/close", "/api/v1/flush", "/api/v1/users/alice/disconnect"] {
            let answer = post(api, call, &[("x-api-key", wrong)], body).await;
            assert_eq!(code(&answer), (401, "unauthorized".into()), "{wrong}");
            let bearer = format!("Bearer {wrong}");
            assert_eq!(post(api, call, &[("authorization", &bearer)], body).await.0, 401, "{wrong}");
        }
        assert_eq!(get(api, "/api/v1/groups", &[("x-api-key", wrong)]).await.0, 401, "{wrong}");
    }
    let basic = format!("Basic {API_KEY}");
    for headers in [&[][..], &[("authorization", basic.as_str())], &[("cookie", API_KEY)], &[("x-api-keys", API_KEY)]] {
        assert_eq!(post(api, MESSAGES, headers, body).await.0, 401, "{headers:?}");
    }
    let in_query = format!("{MESSAGES}?key={API_KEY}&x-api-key={API_KEY}");
    assert_eq!(post(api, &in_query, &[], body).await.0, 401);
    // Two keys, one of them wrong: no.
    for pair in [[API_KEY, "wrong"], ["wrong", API_KEY]] {
        let headers = [("x-api-key", pair[0]), ("x-api-key", pair[1])];
        assert_eq!(post(api, MESSAGES, &headers, body).await.0, 401, "{pair:?}");
    }
    assert!(stack.log("hall").await.is_empty());
    assert_eq!(post(api, MESSAGES, &[("x-api-key", API_KEY)], body).await.0, 200);
    let err = stack.process("api").stderr();
    assert!(!err.contains(API_KEY) && !err.contains(&upper), "no key is logged");
}

/// Bodies that are too large, too deep, no JSON, or JSON of another kind; paths that are no names.
#[tokio::test]
async fn calls_outside_the_rules_are_refused_in_json() {
    let stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let api = stack.addr("api");
    let key = [("x-api-key", API_KEY)];
    let before = resident(stack.process("api").pid());
    let large = format!(r#"{{"body":"{}"}}"#, "x".repeat(1 << 20));
    let deep = |depth: usize| format!(r#"{{"body":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    let message = |more: &str| format!(r#"{{"body":1,{more}}}"#);
    let cases = [
        (MESSAGES, large.clone(), 413, "too_large"),
        ("/api/v1/flush", large.clone(), 413, "too_large"),
        ("/api/v1/users/alice/disconnect", large.clone(), 413, "too_large"),
        (MESSAGES, deep(33), 400, "bad_frame"),
        (MESSAGES, deep(100_000), 400, "bad_frame"),
        (MESSAGES, "[".repeat(100_000), 400, "bad_request"),
        ("/api/v1/flush", "[".repeat(100_000), 400, "bad_request"),
        ("/api/v1/flush", format!(r#"{{"room":{}}}"#, "[".repeat(100_000)), 400, "bad_request"),
        (MESSAGES, format!(r#"{{"body":"{}"}}"#, "x".repeat(40_000)), 400, "too_large"),
        (MESSAGES, r#"{"body":"\u0000"}"#.into(), 400, "bad_body"),
        (MESSAGES, r#"{"body":"\ud800"}"#.into(), 400, "bad_body"),
        (MESSAGES, r#"{"body":1e999999}"#.into(), 400, "bad_body"),
        (MESSAGES, r#"{"body":1,"body":2}"#.into(), 400, "bad_request"),
        (MESSAGES, r#"{"body":1"#.into(), 400, "bad_request"),
        (MESSAGES, r"{}".into(), 400, "bad_request"),
        (MESSAGES, message(r#""cid":"""#), 400, "bad_cid"),
        (MESSAGES, message(r#""cid":"a\u0000""#), 400, "bad_cid"),
        (MESSAGES, message(r#""user":"a\u0000""#), 400, "bad_request"),
        (MESSAGES, message(&format!(r#""user":"{}""#, "u".repeat(65))), 400, "bad_request"),
        (MESSAGES, message(r#""kind":"a\u0000""#), 400, "bad_request"),
        (MESSAGES, message(&format!(r#""kind":"{}""#, "k".repeat(33))), 400, "bad_request"),
        (MESSAGES, message(r#""file":{"url":"u\u0000","name":"n"}"#), 400, "bad_request"),
        (MESSAGES, message(r#""file":{"url":"u","name":"n\u0000"}"#), 400, "bad_request"),
        (MESSAGES, message(r#""sender_type":"admin""#), 400, "bad_request"),
        (MESSAGES, message(r#""seq":7"#), 400, "bad_request"),
        ("/api/v1/rooms/a%20b/messages", r#"{"body":1}"#.into(), 400, "bad_room"),
        ("/api/v1/rooms/%00/messages", r#"{"body":1}"#.into(), 400, "bad_room"),
        ("/api/v1/rooms/%ff/messages", r#"{"body":1}"#.into(), 400, "bad_request"),
        ("/api/v1/rooms/%ff/close", String::new(), 400, "bad_request"),
        ("/api/v1/users/%ff/disconnect", String::new(), 400, "bad_request"),
        ("/api/v1/users/%00/disconnect", String::new(), 400, "bad_request"),
        ("/api/v1/elsewhere", String::new(), 404, "not_found"),
        ("/api/v1/groups", String::new(), 405, "method_not_allowed"),
    ];
    for (path, body, status, expected) in &cases {
        let answer = post(api, path, &key, body).await;
        assert_eq!(code(&answer), (*status, (*expected).to_owned()), "{path} {body:.60}: {:.200}", answer.1);
    }
    for _ in 0..20 {
        assert_eq!(post(api, MESSAGES, &key, &large).await.0, 413);
    }
    assert!(stack.log("hall").await.is_empty(), "nothing of it was accepted");
    let growth = resident(stack.process("api").pid()).saturating_sub(before);
    assert!(growth < 32 << 20, "the API grew by {growth} bytes");
}

/// A caller that never ends its header or its body is not waited for.
#[tokio::test]
async fn half_a_call_is_closed_at_the_time_out() {
    let stack = Stack::builder().workers(&["archive", "replay", "api"]).start().await;
    let api = stack.addr("api").to_owned();
    let mut callers = Vec::new();
    for said in ["", "POST ", "POST /api/v1/flush HTTP/1.1\r\nhost: api\r\nx-slow: "] {
        let mut raw = Raw::tcp(&api).await;
        raw.write(said.as_bytes()).await;
        callers.push(raw);
    }
    for mut raw in callers {
        let answer = raw.read_to_end().await;
        assert!(answer.is_empty() || status_of(&answer) == Some(408), "{answer:?}");
    }
}
