//! Takes connections in: HTTP first, WebSocket after the upgrade.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::handshake::{Verdict, judge};
use super::limits::Place;
use super::session;
use super::wire::Wire;
use super::{Edge, Greeting};
use crate::shutdown::Shutdown;
use crate::telemetry::Readiness;

/// Wait after a failed accept: where the whole system is out of files, only time helps.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);
/// Headers of a request at most.
const HEADERS_MAX: usize = 100;
/// hyper takes no smaller buffer.
const HEADER_BUFFER_MIN: usize = 8 << 10;
/// Read buffer of a connection: small, because most connections are idle most of the time, and
/// cleared before each read. It holds seven usual sends, and grows for a larger frame.
const READ_BUFFER_BYTES: usize = 2 << 10;

/// A connection that was accepted.
struct Socket {
    tcp: TcpStream,
    place: Place,
}

/// Accepts until stopping is requested. Connections go on in `tasks`.
pub(super) async fn run(
    edge: Arc<Edge>,
    listener: TcpListener,
    readiness: Readiness,
    tasks: TaskTracker,
    shutdown: Shutdown,
) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => return,
            accepted = accept(&edge, &listener) => accepted,
        };
        match accepted {
            Ok((socket, address)) => {
                tasks.spawn(serve(edge.clone(), readiness.clone(), tasks.clone(), socket, address));
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Without a free place nobody is accepted: they wait outside. Nothing is lost if it is dropped.
async fn accept(edge: &Edge, listener: &TcpListener) -> io::Result<(Socket, SocketAddr)> {
    let place = edge.limits.place().await;
    let (tcp, address) = listener.accept().await?;
    let _ = tcp.set_nodelay(true);
    Ok((Socket { tcp, place }, address))
}

/// One TCP connection, as far as it speaks HTTP.
async fn serve(edge: Arc<Edge>, readiness: Readiness, tasks: TaskTracker, socket: Socket, address: SocketAddr) {
    let Socket { tcp, place } = socket;
    let settings = &edge.settings;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(*settings.edge.hello_timeout)
        .max_buf_size(settings.limits.header_bytes.max(HEADER_BUFFER_MIN))
        .max_headers(HEADERS_MAX);
    let service = service_fn(|mut request: Request<Incoming>| {
        let answer = match judge(&edge, &readiness, address.ip(), &request) {
            Verdict::Answer(answer) => answer,
            Verdict::Upgrade(answer, greeting) => {
                let upgrade = hyper::upgrade::on(&mut request);
                tasks.spawn(upgraded(edge.clone(), upgrade, greeting, place.clone()));
                answer
            }
        };
        async { Ok::<_, Infallible>(answer) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(tcp), service).with_upgrades());
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = edge.shutdown.requested() => {
            // A request under way is answered; one that might follow is not waited for.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection ended before its upgrade");
    }
}

/// The same connection once it speaks WebSocket.
async fn upgraded(edge: Arc<Edge>, upgrade: OnUpgrade, greeting: Greeting, place: Place) {
    let wait = *edge.settings.edge.hello_timeout;
    if let Ok(Ok(upgraded)) = tokio::time::timeout(wait, upgrade).await
        && let Some(ws) = websocket(&edge, upgraded).await
    {
        session::serve(edge.clone(), ws, greeting).await;
    }
    edge.limits.exit();
    // The socket is closed: another may have its file.
    drop(place);
}

async fn websocket(edge: &Edge, upgraded: Upgraded) -> Option<WebSocketStream<Wire>> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(Some(edge.settings.limits.message_bytes))
        .max_frame_size(Some(edge.settings.limits.message_bytes));
    let wire = Wire::new(parts.io.into_inner());
    Some(WebSocketStream::from_partially_read(wire, parts.read_buf.to_vec(), Role::Server, Some(config)).await)
}
