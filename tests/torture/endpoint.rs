//! Who is called back: endpoints that write down every call, and answer as badly as they are told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::verify::{Digest, Fact, Name, Wants};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::recorder::Scribe;
use crate::seen;
use crate::support::{Callback, Receiver, Respond};

/// How an endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mood {
    /// Takes everything.
    Fine,
    /// 500.
    Failing,
    /// 429, asking for a second of peace.
    Overloaded,
    /// Never.
    Hanging,
    /// Late, and each second time not at all well.
    Flaky,
}

/// An endpoint.
pub(crate) struct Endpoint {
    receiver: Receiver,
    mood: Arc<Mutex<Mood>>,
}

impl Endpoint {
    /// One that takes everything.
    pub(crate) async fn start(scribe: Scribe, group: &str, wants: Wants, seed: u64) -> Self {
        scribe.note(Fact::Endpoint { group: group.into(), wants, rooms: Vec::new() });
        let (receiver, mood) = (Receiver::start().await, Arc::new(Mutex::new(Mood::Fine)));
        let (now, mut rng) = (mood.clone(), StdRng::seed_from_u64(seed));
        receiver.answer(move |callback| {
            let respond = respond(*now.lock().unwrap(), &mut rng);
            let status = match &respond {
                Respond::Status(status) | Respond::With(status, _) => *status,
                Respond::Late(_) => 200,
                Respond::Hang => 0,
            };
            if let Some(fact) = called(callback, status) {
                scribe.note(fact);
            }
            respond
        });
        Self { receiver, mood }
    }

    /// From now on, how it answers.
    pub(crate) fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// `127.0.0.1:port`
    pub(crate) fn addr(&self) -> &str {
        self.receiver.addr()
    }
}

fn respond(mood: Mood, rng: &mut StdRng) -> Respond {
    match mood {
        Mood::Fine => Respond::Status(200),
        Mood::Failing => Respond::Status(500),
        Mood::Overloaded => Respond::With(429, vec![("retry-after", "1".into())]),
        Mood::Hanging => Respond::Hang,
        Mood::Flaky if rng.random_bool(0.3) => Respond::Status(503),
        Mood::Flaky => Respond::Late(Duration::from_millis(rng.random_range(0..300))),
    }
}

/// What a call says; nothing if it is none of an entry.
fn called(callback: &Callback, status: u16) -> Option<Fact> {
    let body: serde_json::Value = serde_json::from_slice(&callback.body).ok()?;
    let webhook_id: Name = callback.headers.get("webhook-id")?.as_str().into();
    let replay = callback.headers.get("millstream-replay").is_some_and(|value| value == "true");
    let seen = seen::entry(&body["data"], None)?;
    let bytes = Digest::of_bytes(&callback.body);
    Some(Fact::Called { webhook_id, bytes, status, replay, seen })
}
