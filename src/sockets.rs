//! How many connections of others a process may hold: its limit of open files, less what it needs itself.
//!
//! Arithmetic; whoever accepts connections counts them, and says how many it makes itself.
//!
//! # Design
//! A process that gives its last file to a client can't reach Redis again once that connection is lost,
//! look a name up, or answer a probe: the clients it has are worth nothing then. So a part of the files
//! is never given away. The limit is looked at when a process starts, and is not raised by us: an
//! operator who has set it shall find it kept.

/// Files that stay for the process beside its own connections: its listeners, health and metrics (32
/// connections), names that are looked up, and some to spare.
const KEPT_BESIDE: u64 = 57;
/// Files that stay for the process at most, unless its own connections alone need more.
const KEPT_MAX: u64 = 512;
/// Of so many files one is kept.
const KEPT_SHARE: u64 = 4;

/// How many files this process may have open; nothing if there is no limit.
pub fn files_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// How many connections of others fit into so many open files, where the process makes `own` itself.
///
/// ```
/// use millstream::sockets::room;
/// assert_eq!(room(Some(128), 7), 64);
/// assert_eq!(room(Some(65_536), 7), 65_024);
/// // An edge of a large cluster needs more than that for itself.
/// assert_eq!(room(Some(65_536), 1_000), 64_479);
/// // Nobody can be served with so few.
/// assert_eq!(room(Some(64), 7), 0);
/// assert_eq!(room(None, 7), usize::MAX);
/// ```
pub fn room(files_max: Option<u64>, own: u64) -> usize {
    let Some(files) = files_max else { return usize::MAX };
    usize::try_from(files.saturating_sub(kept(files / KEPT_SHARE, own))).unwrap_or(usize::MAX)
}

/// How many files a process must be allowed to open so that so many connections of others fit.
///
/// ```
/// use millstream::sockets::{files_for, room};
/// for own in [1, 7, 300, 5_000] {
///     for connections in [1, 64, 100, 1_000, 1_537, 100_000] {
///         assert!(room(Some(files_for(connections, own)), own) >= connections);
///     }
/// }
/// ```
pub fn files_for(connections: usize, own: u64) -> u64 {
    let connections = connections as u64;
    connections.saturating_add(kept(connections / (KEPT_SHARE - 1) + 1, own))
}

fn kept(share: u64, own: u64) -> u64 {
    share.min(KEPT_MAX).max(KEPT_BESIDE.saturating_add(own))
}

/// How many connections may be let in where there is room for so many sockets: some are left for newcomers.
///
/// ```
/// use millstream::sockets::{let_in, newcomers};
/// assert_eq!([let_in(64), let_in(1_000)], [56, 875]);
/// assert!((0..5_000).all(|room| room < 9 || let_in(room) + newcomers(let_in(room)) <= room));
/// ```
pub fn let_in(room: usize) -> usize {
    room.saturating_sub(newcomers(room))
}

/// How many connections lead from one that is shared to the masters of a cluster, if it is one: while a process
/// runs, the cluster may grow by half.
///
/// ```
/// use millstream::sockets::to_nodes;
/// assert_eq!([to_nodes(None), to_nodes(Some(1)), to_nodes(Some(6))], [1, 2, 10]);
/// ```
pub fn to_nodes(masters: Option<usize>) -> u64 {
    masters.map_or(1, |masters| (masters + masters / 2 + 1) as u64)
}

/// How many connections beside `connections` may be before their upgrade: enough for a storm of
/// newcomers to be let in or answered, and for probes, when all others are taken.
///
/// ```
/// use millstream::sockets::newcomers;
/// assert_eq!([newcomers(2), newcomers(800), newcomers(100_000)], [8, 100, 256]);
/// ```
pub fn newcomers(connections: usize) -> usize {
    (connections / 8).clamp(8, 256)
}
