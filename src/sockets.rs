//! How many connections of others a process may hold: its limit of open files, less what it needs itself.
//!
//! Arithmetic; whoever accepts connections counts them.
//!
//! # Design
//! A process that gives its last file to a client can't reach Redis again once that connection is lost,
//! look a name up, or answer a probe: the clients it has are worth nothing then. So a part of the files
//! is never given away. The limit is looked at when a process starts, and is not raised by us: an
//! operator who has set it shall find it kept.

/// Files that stay for the process at least: its listeners, health and metrics (32 connections), Redis
/// (an edge has 7 connections), names that are looked up, and some to spare.
const KEPT_MIN: u64 = 64;
/// Files that stay for the process at most: `millstream dev` has all of it in one.
const KEPT_MAX: u64 = 512;
/// Of so many files one is kept.
const KEPT_SHARE: u64 = 4;

/// How many files this process may have open; nothing if there is no limit.
pub fn files_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// How many connections of others fit into so many open files.
///
/// ```
/// use millstream::sockets::room;
/// assert_eq!(room(Some(128)), 64);
/// assert_eq!(room(Some(65_536)), 65_024);
/// // Nobody can be served with so few.
/// assert_eq!(room(Some(64)), 0);
/// assert_eq!(room(None), usize::MAX);
/// ```
pub fn room(files_max: Option<u64>) -> usize {
    let Some(files) = files_max else { return usize::MAX };
    let kept = (files / KEPT_SHARE).clamp(KEPT_MIN, KEPT_MAX);
    usize::try_from(files.saturating_sub(kept)).unwrap_or(usize::MAX)
}

/// How many files a process must be allowed to open so that so many connections of others fit.
///
/// ```
/// use millstream::sockets::{files_for, room};
/// for connections in [1, 64, 100, 1_000, 1_537, 100_000] {
///     assert!(room(Some(files_for(connections))) >= connections);
/// }
/// ```
pub fn files_for(connections: usize) -> u64 {
    let connections = connections as u64;
    let kept = (connections / (KEPT_SHARE - 1) + 1).clamp(KEPT_MIN, KEPT_MAX);
    connections.saturating_add(kept)
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
