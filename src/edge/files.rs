//! How many files an edge needs for itself.

use crate::config::RedisSettings;
use crate::publish::Publisher;
use crate::sockets::to_nodes;

/// Connections for a moment: to look at a node, or to listen to signals over another.
const MOMENTARY: u64 = 1;

/// The connections to Redis of an edge, with so many masters if that is a cluster. There the tail reads each
/// partition over a connection of its own, and what is shared leads to each master.
///
/// ```
/// use millstream::config::{Durability, RedisSettings};
/// use millstream::edge::own_files;
/// let mut redis = RedisSettings { partitions: 64, ..RedisSettings::default() };
/// assert_eq!([own_files(&redis, None), own_files(&redis, Some(6))], [7, 98]);
/// redis.durability = Durability::Replicated(1);
/// assert_eq!([own_files(&redis, None), own_files(&redis, Some(6))], [70, 216]);
/// ```
pub fn own_files(redis: &RedisSettings, masters: Option<usize>) -> u64 {
    let tail = if masters.is_some() { u64::from(redis.partitions) } else { 1 };
    let (inbox, signals, momentary) = (1, 1, if masters.is_some() { 2 * MOMENTARY } else { MOMENTARY });
    // The process's own, and that of the desks.
    let shared = 2 * to_nodes(masters);
    shared + Publisher::connections(redis, masters) + tail + inbox + signals + momentary
}
