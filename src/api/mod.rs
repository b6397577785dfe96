//! Management HTTP: what a backend or an operator does to a running system.
//!
//! Looks at everything and owns nothing. Every call but `/livez`, `/readyz` and `/openapi.json`
//! needs the API key, as `X-Api-Key` or `Authorization: Bearer`; without a configured key every such
//! call is refused. Errors are JSON: `{"error": {"code", "message", "retryable"}}`.
//!
//! **Invariant:** a message is answered with its id only once it is in the log, as on the edge.

mod groups;
mod key;
mod people;
mod problem;
mod rooms;
mod serve;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::middleware;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tracing::info;
use utoipa::OpenApi;

use self::key::Security;
use self::state::Api;
use crate::config::Settings;
use crate::error::Result;
use crate::publish::Publisher;
use crate::shutdown::Shutdown;
use crate::sockets::{files_max, room, to_nodes};
use crate::store::Store;
use crate::stream::Redis;
use crate::telemetry::Readiness;

/// Largest body of a request: a message of the default `limits.message_bytes`, and some.
const BODY_BYTES_MAX: usize = 256 << 10;

/// The description of the calls, served as `/openapi.json`.
#[derive(OpenApi)]
#[openapi(
    info(title = "Millstream management API", description = "What a backend or an operator does to a running system."),
    paths(rooms::publish, rooms::close, rooms::flush, groups::list, people::disconnect),
    modifiers(&Security),
)]
struct Description;

/// Serves until stopping is requested; calls under way are finished.
///
/// # Errors
/// If Redis can't be reached.
pub async fn run(
    settings: Arc<Settings>,
    redis: Redis,
    store: Store,
    listener: TcpListener,
    readiness: Readiness,
    shutdown: Shutdown,
) -> Result<()> {
    let own = own_files(&settings, redis.masters());
    // Files that callers may not have are for reaching Redis and Postgres again.
    let connections_max = settings.api.connections.min(room(files_max(), own)).max(1);
    let api = Arc::new(Api::new(settings, redis, store, readiness.clone()).await?);
    let watching = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(state::watch(api.clone(), readiness)));
    info!("the API serves");
    serve::run(router(api), listener, connections_max, shutdown).await;
    drop(watching);
    Ok(())
}

/// The connections of an API process: to Redis its own and those for publishing, and to Postgres.
fn own_files(settings: &Settings, masters: Option<usize>) -> u64 {
    to_nodes(masters) + Publisher::connections(&settings.redis, masters) + u64::from(settings.database.connections_max)
}

fn router(api: Arc<Api>) -> Router {
    let keyed = Router::new()
        .route("/api/v1/rooms/{room}/messages", post(rooms::publish))
        .route("/api/v1/rooms/{room}/close", post(rooms::close))
        .route("/api/v1/flush", post(rooms::flush))
        .route("/api/v1/groups", get(groups::list))
        .route("/api/v1/users/{user}/disconnect", post(people::disconnect))
        .route_layer(middleware::map_response(problem::in_json))
        .route_layer(middleware::from_fn_with_state(api.clone(), key::check));
    Router::new()
        .merge(keyed)
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/openapi.json", get(async || axum::Json(Description::openapi())))
        .fallback(problem::not_found)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(middleware::from_fn(key::count))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(api)
}

async fn ready(State(api): State<Arc<Api>>) -> (StatusCode, String) {
    let report = api.readiness.report();
    if report.ready {
        (StatusCode::OK, "ok\n".into())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", report.failures()))
    }
}
