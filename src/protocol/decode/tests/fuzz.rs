//! Any bytes at all, and any body at all.

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::examples::{message_entry, short_keys};
use crate::protocol::{ServerFrame, payload};

/// Any JSON value that can be stored.
fn storable() -> impl Strategy<Value = Value> {
    let text = r#"[^\x00]{0,12}"#;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::num::f64::NORMAL.prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 40, 20, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::from),
            vec((text, inner), 0..20).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

fn body_of(request: Result<Request<'_>, Refusal>) -> String {
    match request.expect("refused").frame {
        ClientFrame::Send(send) => send.body.into_owned(),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_body_keeps_its_value_on_every_way(body in storable()) {
        let frame = json!({"type": "send", "room": "r", "cid": "c", "body": body});
        let compact = body.to_string();
        let limit = 1 << 20;

        let pretty = serde_json::to_string_pretty(&frame).unwrap();
        prop_assert_eq!(&body_of(decode(Subprotocol::Json, pretty.as_bytes(), limit)), &compact);
        let twin = rmp_serde::to_vec(&short_keys(&frame)).unwrap();
        prop_assert_eq!(&body_of(decode(Subprotocol::MsgPack, &twin, limit)), &compact);

        let entry = message_entry(&compact);
        let sent = payload(Subprotocol::MsgPack, &ServerFrame::Entry(&entry)).unwrap();
        let sent: Value = rmp_serde::from_slice(&sent).unwrap();
        prop_assert_eq!(&sent["b"], &body);
        let sent = payload(Subprotocol::Json, &ServerFrame::Entry(&entry)).unwrap();
        let expected = format!(r#""body":{compact},"at""#);
        prop_assert!(std::str::from_utf8(&sent).unwrap().contains(&expected));
    }

    #[test]
    fn random_bytes_are_refused_or_read_but_survived(bytes in vec(any::<u8>(), 0..200)) {
        for subprotocol in Subprotocol::ALL {
            let _ = decode(subprotocol, &bytes, BODY_BYTES);
        }
    }

    /// Near misses reach further into the code than noise does.
    #[test]
    fn damaged_frames_are_survived(
        body in storable(),
        since in storable(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(),
    ) {
        for kind in ["send", "join", "signal", "history", "hello"] {
            let frame = json!({"type": kind, "ref": 5, "room": "r", "cid": "c", "body": body, "since": since,
                "file": {"url": "u", "name": "n"}, "limit": 5, "before": 7, "device": "d"});
            let payloads = [frame.to_string().into_bytes(), rmp_serde::to_vec(&short_keys(&frame)).unwrap()];
            for (subprotocol, mut payload) in Subprotocol::ALL.into_iter().zip(payloads) {
                let _ = decode(subprotocol, &payload[..cut.index(payload.len())], BODY_BYTES);
                for (at, byte) in &damage {
                    let at = at.index(payload.len());
                    payload[at] = *byte;
                }
                if let Ok(request) = decode(subprotocol, &payload, BODY_BYTES)
                    && let ClientFrame::Send(send) = request.frame
                {
                    let stored: Result<Value, _> = serde_json::from_str(&send.body);
                    prop_assert!(stored.is_ok(), "{}", send.body);
                    prop_assert!(!send.body.contains('\0'));
                }
            }
        }
    }
}
