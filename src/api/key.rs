//! Who may call, and what was called.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use utoipa::Modify;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};

use super::problem::Problem;
use super::state::Api;
use crate::telemetry::names;

const KEY_HEADER: &str = "x-api-key";

/// Lets a call through that has the key.
pub(super) async fn check(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let given = given_key(request.headers());
    match (&api.key, given) {
        (Some(key), Some(given)) if key.matches(given) => next.run(request).await,
        (None, _) => Problem::unauthorized("no API key is configured: set api.key").into_response(),
        _ => Problem::unauthorized("X-Api-Key is missing or wrong").into_response(),
    }
}

/// The one key that is given. Of several, somebody on the way may have looked at another than we would.
fn given_key(headers: &HeaderMap) -> Option<&str> {
    let own = headers.get_all(KEY_HEADER).iter().map(|value| value.to_str().ok());
    let bearer = headers.get_all(AUTHORIZATION).iter().map(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let mut given = own.chain(bearer);
    let key = given.next()??;
    given.next().is_none().then_some(key)
}

/// Counts a call by its route, never by its path: that is what callers choose.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str).to_owned();
    let method = match request.method().as_str() {
        method @ ("GET" | "POST" | "PUT" | "DELETE" | "HEAD") => method.to_owned(),
        _ => "other".to_owned(),
    };
    let began = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!(names::API_SECONDS, "route" => route.clone()).record(began.elapsed());
    metrics::counter!(names::API_REQUESTS, "method" => method, "route" => route, "status" => status).increment(1);
    response
}

/// Describes the key in OpenAPI.
pub(super) struct Security;

impl Modify for Security {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_with(Default::default);
        let key = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Api-Key")));
        components.add_security_scheme("api_key", key);
    }
}
