//! Calls about consumer groups.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::problem::Problem;
use super::state::Api;
use crate::group::positions;

/// Entries that are counted to say how far a group is behind; beyond, the number is a lower bound.
const COUNT_MAX: u64 = 100_000;

/// Where a group stands in a partition.
#[derive(Serialize, ToSchema)]
pub(super) struct Position {
    group: String,
    partition: u16,
    /// The worker that owns the partition.
    owner: Option<String>,
    /// Everything up to here is settled.
    checkpoint: Option<String>,
    last_delivered: String,
    /// Entries after the checkpoint.
    lag_entries: u64,
    /// Whether that number is exact, or a lower bound.
    lag_exact: bool,
    /// Delivered and not acknowledged.
    pending: u64,
    oldest_pending: Option<String>,
}

/// Every group in every partition: owner, position, lag.
#[utoipa::path(
    get, path = "/api/v1/groups", tag = "groups", security(("api_key" = [])),
    responses((status = 200, body = Vec<Position>), (status = 503, body = Problem))
)]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Json<Vec<Position>>, Problem> {
    let positions = positions(&api.redis, api.partitions, COUNT_MAX).await?;
    let position = |found: crate::group::GroupPosition| Position {
        group: found.group,
        partition: found.partition.0,
        owner: found.owner,
        checkpoint: found.checkpoint.map(|id| id.to_string()),
        last_delivered: found.last_delivered.to_string(),
        lag_entries: found.lag.entries,
        lag_exact: found.lag.exact,
        pending: found.pending,
        oldest_pending: found.oldest_pending.map(|id| id.to_string()),
    };
    Ok(Json(positions.into_iter().map(position).collect()))
}
