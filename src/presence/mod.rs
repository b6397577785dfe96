//! Stays of users in rooms, beyond any one edge: ends those whose time is over.
//!
//! Edges count their connections' joins and leaves as they happen
//! ([`Redis::count_members`](crate::stream::Redis::count_members)). What no edge can do is here: the stay of a user whose last
//! connection ended ends after the debounce, and so do the stays on an edge that is gone.
//!
//! **Invariant:** a stay whose edge is gone ends: nobody stays in a room for ever.

use std::time::Duration;

use crate::error::Result;
use crate::model::PartitionId;
use crate::stream::Redis;

/// Steps of one call: few enough that Redis serves others in between.
const STEPS_PER_CALL: u64 = 200;
/// Calls of one sweep at most; the next one goes on.
const CALLS_MAX: usize = 50;

/// Ends the stays of a partition whose time is over. Called again and again by the partition's
/// owner in the archive group; another caller at the same time does no harm.
///
/// # Errors
/// As Redis answers. Repeating is harmless.
pub async fn sweep(redis: &Redis, partition: PartitionId, debounce: Duration) -> Result<u64> {
    let mut done = 0;
    for _ in 0..CALLS_MAX {
        let steps = redis.sweep_members(partition, debounce, STEPS_PER_CALL).await?;
        done += steps;
        if steps < STEPS_PER_CALL {
            break;
        }
    }
    Ok(done)
}
