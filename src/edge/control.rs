//! What can be asked of a connection from outside it.

use std::time::Duration;

use crate::model::PartitionId;

/// A change that concerns a connection itself.
#[derive(Debug, Clone)]
pub(super) enum Control {
    /// A newer connection of the same device is there.
    Replaced,
    /// An operator wants it closed.
    Disconnect,
    /// The edge stops: say goodbye, and come back after this time.
    Drain(Duration),
    /// The log of this partition may be another than before: verify every subscription in it.
    Verify(PartitionId),
    /// The edge was taken for dead: count this connection's stays again.
    CountAgain,
}
