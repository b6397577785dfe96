//! An HTTP endpoint that takes callbacks and remembers them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;
use tokio::sync::oneshot;

use super::background;

/// One attempt that came.
#[derive(Debug, Clone)]
pub struct Callback {
    /// Path and query.
    pub path: String,
    /// Headers; names in lower case.
    pub headers: HashMap<String, String>,
    /// The body, byte for byte.
    pub body: Vec<u8>,
    /// When it came.
    pub at: Instant,
    /// What it was answered.
    pub status: u16,
}

impl Callback {
    /// The header `webhook-id`.
    pub fn id(&self) -> &str {
        &self.headers["webhook-id"]
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a callback's body is JSON")
    }
}

/// How the endpoint answers.
#[derive(Debug, Clone)]
pub enum Respond {
    /// With this status at once.
    Status(u16),
    /// With this status and these headers.
    With(u16, Vec<(&'static str, String)>),
    /// With 200 after this time.
    Late(Duration),
    /// Never.
    Hang,
}

/// Decides how an attempt is answered.
type Answer = Box<dyn FnMut(&Callback) -> Respond + Send>;

struct Shared {
    answer: Mutex<Answer>,
    seen: Mutex<Vec<Callback>>,
}

/// The endpoint.
pub struct Receiver {
    addr: String,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

impl Receiver {
    /// One that answers everything with 200.
    pub async fn start() -> Self {
        let answer: Answer = Box::new(|_| Respond::Status(200));
        let shared = Arc::new(Shared { answer: Mutex::new(answer), seen: Mutex::default() });
        let app = axum::Router::new().fallback(take).with_state(shared.clone());
        let (stop, stopped) = oneshot::channel::<()>();
        let (bound, addr) = oneshot::channel();
        background().spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
            let _ = bound.send(listener.local_addr().expect("it is bound").to_string());
            tokio::select! {
                served = axum::serve(listener, app) => served.expect("the listener serves"),
                _ = stopped => {}
            }
        });
        Self { addr: addr.await.expect("it is bound"), shared, _stop: stop }
    }

    /// `http://127.0.0.1:port/hook`
    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// From now on, how attempts are answered.
    pub fn answer(&self, with: impl FnMut(&Callback) -> Respond + Send + 'static) {
        *self.shared.answer.lock().unwrap() = Box::new(with);
    }

    /// All attempts so far, in order of arrival.
    pub fn seen(&self) -> Vec<Callback> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// What was accepted with 2xx, each `webhook-id` once, in order of first acceptance.
    pub fn accepted(&self) -> Vec<Callback> {
        let mut ids = std::collections::HashSet::new();
        let accepted = |c: &Callback| (200..300).contains(&c.status) && ids.insert(c.id().to_owned());
        self.seen().into_iter().filter(accepted).collect()
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let headers = headers.iter().map(|(k, v)| (k.to_string(), v.to_str().unwrap_or_default().to_owned())).collect();
    let (path, body) = (uri.to_string(), body.to_vec());
    let mut callback = Callback { path, headers, body, at: Instant::now(), status: 0 };
    let respond = (shared.answer.lock().unwrap())(&callback);
    callback.status = match &respond {
        Respond::Status(status) | Respond::With(status, _) => *status,
        Respond::Late(_) => 200,
        Respond::Hang => 0,
    };
    shared.seen.lock().unwrap().push(callback);
    let status = |status: u16| StatusCode::from_u16(status).expect("a status");
    match respond {
        Respond::Status(code) => status(code).into_response(),
        Respond::With(code, headers) => {
            let mut response = status(code).into_response();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().expect("a header"));
            }
            response
        }
        Respond::Late(time) => {
            tokio::time::sleep(time).await;
            StatusCode::OK.into_response()
        }
        Respond::Hang => std::future::pending().await,
    }
}
