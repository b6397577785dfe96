//! Takes calls in.
//!
//! # Design
//! Not `axum::serve`: it waits for the end of a header as long as a caller likes, so that connections
//! which say nothing would add up without a limit.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::shutdown::Shutdown;

/// Longest wait for the header of a call, the idle time between two as well.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest header of a call.
const HEADER_BYTES_MAX: usize = 16 << 10;
/// Wait after a failed accept: it fails again at once when files have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until stopping is requested; calls under way are finished. More than `connections_max` callers at the
/// same time wait outside.
pub(super) async fn run(router: Router, listener: TcpListener, connections_max: usize, shutdown: Shutdown) {
    let (tasks, permits) = (TaskTracker::new(), Arc::new(Semaphore::new(connections_max)));
    loop {
        let accepted = tokio::select! {
            () = shutdown.requested() => break,
            accepted = accept(&listener, &permits) => accepted,
        };
        match accepted {
            Ok((tcp, permit)) => {
                let (router, shutdown) = (router.clone(), shutdown.clone());
                tasks.spawn(async move {
                    converse(router, tcp, shutdown).await;
                    drop(permit);
                });
            }
            Err(error) => {
                warn!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

/// The permit is taken first, so that too many wait outside and don't fail.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let permit = permits.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (tcp, _) = listener.accept().await?;
    let _ = tcp.set_nodelay(true);
    Ok((tcp, permit))
}

async fn converse(router: Router, tcp: TcpStream, shutdown: Shutdown) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT).max_buf_size(HEADER_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(tcp), TowerToHyperService::new(router)));
    let served = tokio::select! {
        served = connection.as_mut() => served,
        () = shutdown.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        debug!(%error, "a connection of the API ended early");
    }
}
