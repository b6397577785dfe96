//! Calls about users.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::problem::Problem;
use super::state::Api;
use crate::model::{EdgeNote, UserId};

/// Whose connections to close.
#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Disconnect {
    /// One device only.
    device: Option<String>,
}

/// That every edge was told.
#[derive(Serialize, ToSchema)]
pub(super) struct Told {
    user: String,
}

/// Closes a user's connections with 4505; a token that is still valid lets them in again.
#[utoipa::path(
    post, path = "/api/v1/users/{user}/disconnect", tag = "users", security(("api_key" = [])),
    params(("user" = String, Path, description = "The user")), request_body = Disconnect,
    responses((status = 200, body = Told), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(super) async fn disconnect(
    State(api): State<Arc<Api>>,
    Path(user): Path<String>,
    body: axum::body::Bytes,
) -> Result<Json<Told>, Problem> {
    let bad = |message: String| Problem::bad_request("bad_request", message);
    let user = UserId::new(&user).map_err(|error| bad(error.to_string()))?;
    let wanted: Disconnect = if body.is_empty() {
        Disconnect::default()
    } else {
        serde_json::from_slice(&body).map_err(|error| bad(error.to_string()))?
    };
    api.tell_edges(&EdgeNote::Disconnect { user: user.to_string(), device: wanted.device }).await?;
    Ok(Json(Told { user: user.to_string() }))
}
