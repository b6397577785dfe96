//! Errors as callers see them.

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Kind};

/// An answer that is an error: `{"error": {"code", "message", "retryable"}}`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Problem {
    #[serde(skip)]
    status: u16,
    error: ProblemText,
}

#[derive(Debug, Serialize, ToSchema)]
struct ProblemText {
    /// A word of a closed set: those of the client protocol where they fit.
    code: &'static str,
    /// For a person.
    message: String,
    /// Whether the same call may succeed later.
    retryable: bool,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>, retryable: bool) -> Self {
        Self { status: status.as_u16(), error: ProblemText { code, message: message.into(), retryable } }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, false)
    }

    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message, false)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", message, false)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message, true)
    }

    pub(super) fn no_such(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", what, false)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::Invalid => Self::bad_request("bad_request", error.to_string()),
            _ if error.is_retryable() => Self::unavailable(error.to_string()),
            _ => {
                tracing::error!(%error, "a call of the API failed");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string(), true)
            }
        }
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        let (status, code) = match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            // JSON of the wrong kind is as bad a request as no JSON.
            StatusCode::UNPROCESSABLE_ENTITY => (StatusCode::BAD_REQUEST, "bad_request"),
            other => (other, "bad_request"),
        };
        Self::new(status, code, rejection.body_text(), false)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}

/// Longest refusal of the library that is told on.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// Refusals that the library makes by itself (a body over the limit, a path that is no text) in our form.
pub(super) async fn in_json(response: Response) -> Response {
    let status = response.status();
    let json =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if json || !status.is_client_error() {
        return response;
    }
    let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "bad_request" };
    let text = axum::body::to_bytes(response.into_body(), REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let message = if text.is_empty() { status.canonical_reason().unwrap_or("refused") } else { text.as_ref() };
    Problem::new(status, code, message, false).into_response()
}

pub(super) async fn not_found() -> Problem {
    Problem::no_such("there is no such call: GET /openapi.json lists them")
}

pub(super) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "the call takes another method", false)
}
