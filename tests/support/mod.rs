//! What integration tests stand on: real servers, real processes, a client that checks promises.
//!
//! `Redis` and `Postgres` start real servers on free ports in folders of their own; `Proxy` breaks
//! connections; `Client` speaks the protocol and checks promise 2 on every message it sees;
//! `Process` runs our programs; `Receiver` takes callbacks; `Stack` is all of it together.
//! `Device` is a client as an application should be; `Traffic` is several that write while something
//! breaks, with an audit afterwards.
//!
//! **Invariant:** whatever is started here ends with the test program, even one that is killed:
//! see [`reaper`].
//!
//! **Invariant:** tests wait for facts ([`wait_until`], [`eventually`], [`Client::expect`]), never for time.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of the support")]
#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

mod client;
mod cluster;
mod device;
mod frames;
mod http;
mod postgres;
mod preload;
mod process;
mod proxy;
mod reaper;
mod receiver;
mod redis;
mod resp;
mod said;
mod stack;
mod traffic;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};

#[allow(unused_imports, reason = "each test program uses a part of the support")]
pub use self::{
    client::{Came, Client, Format, HandshakeRefused},
    cluster::Cluster,
    device::{Device, Reading},
    frames::{from_msgpack, to_msgpack},
    http::{get, post},
    postgres::{Database, Postgres},
    preload::{skewed_clock, slow_fsync},
    process::Process,
    proxy::{Mode, Proxy},
    receiver::{Callback, Receiver, Respond},
    redis::{Redis, new_dir},
    resp::Reply,
    said::{Said, millstream},
    stack::{LogEntry, Stack, StackBuilder},
    traffic::{ROOMS, Traffic, readers},
};

/// Longest wait for anything: generous, because a busy machine is no failure.
pub const DEADLINE: Duration = Duration::from_secs(30);
/// How often a fact is looked up again.
const POLL: Duration = Duration::from_millis(20);
/// The secret of HS256 that every `Stack` uses.
pub const SECRET: &str = "a-secret-for-tests-that-is-long-enough";
/// The management key that every `Stack` uses.
pub const API_KEY: &str = "a-key-for-tests-that-is-long-enough";
/// The secret of callbacks that every `Stack` uses.
pub const CALLBACK_SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiB0ZXN0cyBpcyBsb25nIGVub3VnaA==";

/// Waits until `fact` holds; panics with `what` after [`DEADLINE`].
pub async fn wait_until<F, Fut>(what: &str, mut fact: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let begin = Instant::now();
    while !fact().await {
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until `look` finds what is wanted; panics with `what` after [`DEADLINE`].
pub async fn eventually<T, F, Fut>(what: &str, mut look: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until `look` gives `wanted`; panics with both values after [`DEADLINE`].
pub async fn wait_until_eq<T, F, Fut>(what: &str, wanted: T, mut look: F)
where
    T: PartialEq + Debug,
    F: FnMut() -> Fut,
    Fut: Future<Output = T>,
{
    let begin = Instant::now();
    loop {
        let found = look().await;
        if found == wanted {
            return;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}: {found:?} is not {wanted:?}");
        tokio::time::sleep(POLL).await;
    }
}

/// A token of HS256 with [`SECRET`] for `user`, valid for three hours, with rights by pattern.
pub fn token(user: &str, rooms: &[(&str, &str)]) -> String {
    let rooms: serde_json::Map<String, Value> = rooms.iter().map(|(p, r)| ((*p).into(), json!(r))).collect();
    token_of(&json!({ "sub": user, "exp": now_s() + 10_800, "rooms": rooms }), SECRET)
}

/// A token of HS256 with any claims and any secret.
pub fn token_of(claims: &Value, secret: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&json!({ "alg": "HS256", "typ": "JWT" })), part(claims));
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// Seconds since the Unix epoch.
pub fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// A name that no other test of this or another run has.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{what}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A port on loopback that is free now.
///
/// Below the ports that the kernel hands out by itself: a server that is restarted must find its
/// port free, and a client that connects to a dead one must not be connected to itself.
pub fn free_port() -> u16 {
    // Whoever was given a port may not listen there yet: no port is given twice.
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = rand::random_range(20_000..32_000);
        let is_free = std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}

/// The runtime of proxies and receivers: apart from the test's own, so that one that blocks doesn't stop them.
fn background() -> &'static tokio::runtime::Runtime {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime starts")
    })
}
