//! A device comes while another edge has its connection.

use std::time::Duration;

use super::super::Edge;
use crate::error::Result;
use crate::model::{DeviceId, EdgeNote, UserId};
use crate::stream::DeviceHolder;
use crate::telemetry::names;

/// Longest wait for an older connection of the same device to write its cursors.
pub(super) const REPLACE_WAIT: Duration = Duration::from_secs(2);
/// The same if its edge has no connection to Redis: it was killed, or is connecting again and answers all the same. All its
/// clients come back at once, so they should not wait for an answer that will not come.
const GONE_WAIT: Duration = Duration::from_millis(200);

/// Ends the older connection, and waits until its cursors are written.
pub(super) async fn take_over(edge: &Edge, user: &UserId, device: &DeviceId, older: DeviceHolder) -> Result<()> {
    if older.edge == edge.id || !edge.redis.edge_is_alive(&older.edge).await? {
        return Ok(());
    }
    let (wait, replaced) = edge.replacements.wait();
    let note = EdgeNote::Replace {
        user: user.to_string(),
        device: device.to_string(),
        connection: older.connection,
        reply_to: edge.id.clone(),
        wait,
    };
    if let Err(error) = edge.redis.send_to_edge(&older.edge, &note).await {
        edge.replacements.forget(wait);
        return Err(error);
    }
    let (patience, silence) =
        if edge.redis.edge_is_connected(&older.edge).await { (REPLACE_WAIT, "silent") } else { (GONE_WAIT, "gone") };
    let outcome = tokio::time::timeout(patience, replaced).await.map_or(silence, |_| "replaced");
    edge.replacements.forget(wait);
    metrics::counter!(names::TAKE_OVERS, "outcome" => outcome).increment(1);
    Ok(())
}
