//! Names of the keys, all under one prefix; `{p}` is a hash tag, so a partition's keys share a slot.

use crate::model::{DeviceId, EntryId, PartitionId, UserId};

/// The names of Millstream's keys in Redis.
///
/// ```
/// use millstream::{model::PartitionId, stream::Keys};
/// assert_eq!(Keys::new("mill").log(PartitionId(3)), "mill:{3}:log");
/// ```
#[derive(Debug, Clone)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// The names under `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The prefix itself.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Hash: format version, P, created at.
    pub fn meta(&self) -> String {
        format!("{}:meta", self.prefix)
    }

    /// Stream: the entries of a partition.
    pub fn log(&self, p: PartitionId) -> String {
        self.of(p, "log")
    }

    /// Hash: room → last seq.
    pub fn seq(&self, p: PartitionId) -> String {
        self.of(p, "seq")
    }

    /// Hash: room → id of its last entry.
    pub fn head(&self, p: PartitionId) -> String {
        self.of(p, "head")
    }

    /// String: incarnation of the partition; absent means not initialised.
    pub fn epoch(&self, p: PartitionId) -> String {
        self.of(p, "epoch")
    }

    /// Set: closed rooms.
    pub fn closed(&self, p: PartitionId) -> String {
        self.of(p, "closed")
    }

    /// String: a device's last accepted cids with their answers.
    pub fn dedup(&self, p: PartitionId, user: &str, device: &str) -> String {
        format!("{}:{{{p}}}:dedup:{user}/{}", self.prefix, escaped(device))
    }

    /// Stream: requests to the replay workers.
    pub fn replay(&self, p: PartitionId) -> String {
        self.of(p, "replay")
    }

    /// Hash: group → id up to which it has settled everything.
    pub fn checkpoint(&self, p: PartitionId) -> String {
        self.of(p, "checkpoint")
    }

    /// Hash: group → id up to which its owners were given everything.
    pub fn delivered(&self, p: PartitionId) -> String {
        self.of(p, "delivered")
    }

    /// Stream: copies of entries that one group is to have again.
    pub fn redeliver(&self, p: PartitionId, group: &str) -> String {
        format!("{}:{{{p}}}:redeliver:{group}", self.prefix)
    }

    /// String: a dead letter was copied for its group, so that it isn't twice.
    pub fn retried(&self, p: PartitionId, group: &str, letter: EntryId) -> String {
        format!("{}:{{{p}}}:retried:{group}:{letter}", self.prefix)
    }

    /// Hash: entry → failed attempts of a callback group, and when the next is due.
    pub fn attempts(&self, p: PartitionId, group: &str) -> String {
        format!("{}:{{{p}}}:attempts:{group}", self.prefix)
    }

    /// Hash: whether a callback endpoint is paused or asked to wait.
    pub fn callback(&self, endpoint: &str) -> String {
        format!("{}:callback:{endpoint}", self.prefix)
    }

    /// Channel: signals of the rooms of a partition.
    pub fn signal(&self, p: PartitionId) -> String {
        self.of(p, "signal")
    }

    /// Hash: room and user → connections that have joined.
    pub fn members(&self, p: PartitionId) -> String {
        self.of(p, "members")
    }

    /// Hash: room, user and connection of one edge → since when.
    pub fn members_of_edge(&self, p: PartitionId, edge: &str) -> String {
        format!("{}:{{{p}}}:members:{edge}", self.prefix)
    }

    /// Set: edges that have members in the partition.
    pub fn member_edges(&self, p: PartitionId) -> String {
        self.of(p, "edges")
    }

    /// Sorted set: room and user → when the stay ends unless they come back.
    pub fn leaving(&self, p: PartitionId) -> String {
        self.of(p, "leaving")
    }

    /// String: lives as long as its edge.
    pub fn edge_alive(&self, edge: &str) -> String {
        format!("{}:edge:{edge}:alive", self.prefix)
    }

    /// Channel: an edge listens to it as long as it is connected; nothing is said on it.
    pub fn edge_presence(&self, edge: &str) -> String {
        format!("{}:edge:{edge}:presence", self.prefix)
    }

    /// Stream: what workers and the API send to one edge.
    pub fn inbox(&self, edge: &str) -> String {
        format!("{}:edge:{edge}:inbox", self.prefix)
    }

    /// Set: the edges that may be alive.
    pub fn edges(&self) -> String {
        format!("{}:edges", self.prefix)
    }

    /// Hash: room → `id,seq` of a device.
    pub fn cursor(&self, user: &UserId, device: &DeviceId) -> String {
        format!("{}:cursor:{user}:{}", self.prefix, escaped(device))
    }

    /// Hash: room → seq up to which the user has read.
    pub fn read_marker(&self, user: &UserId) -> String {
        format!("{}:read:{user}", self.prefix)
    }

    /// String: edge and connection that hold a device.
    pub fn device(&self, user: &UserId, device: &DeviceId) -> String {
        format!("{}:device:{user}:{}", self.prefix, escaped(device))
    }

    /// String with expiry: who owns a partition in a group.
    pub fn lease(&self, group: &str, p: PartitionId) -> String {
        format!("{}:lease:{group}:{{{p}}}", self.prefix)
    }

    /// String: the last fencing token of a group in a partition.
    pub fn lease_token(&self, group: &str, p: PartitionId) -> String {
        format!("{}:lease:{group}:{{{p}}}:token", self.prefix)
    }

    /// Sorted set: worker → when it was last alive.
    pub fn workers(&self, group: &str) -> String {
        format!("{}:workers:{group}", self.prefix)
    }

    /// Stream: entries that a group gave up.
    pub fn dead(&self, group: &str) -> String {
        format!("{}:dead:{group}", self.prefix)
    }

    /// Hash: state of a replay job, so that it can be resumed.
    pub fn replay_job(&self, job: &str) -> String {
        format!("{}:replay-job:{job}", self.prefix)
    }

    /// String: up to where a replay job has come in a partition.
    pub fn replay_position(&self, p: PartitionId, job: &str) -> String {
        format!("{}:{{{p}}}:replay-job:{job}", self.prefix)
    }

    /// String: raised to have the archive write what it holds at once.
    pub fn flush(&self, p: PartitionId) -> String {
        self.of(p, "flush")
    }

    /// Hash: group → range of ids that a wiped log owes it.
    pub fn owed(&self, p: PartitionId) -> String {
        self.of(p, "owed")
    }

    fn of(&self, p: PartitionId, name: &str) -> String {
        format!("{}:{{{p}}}:{name}", self.prefix)
    }
}

/// A device is named by its client: escaped, the last `:` or `/` of a key always ends the user, and
/// no device of one user can take the key of another's.
fn escaped(device: &str) -> std::borrow::Cow<'_, str> {
    if device.contains([':', '/', '%']) {
        device.replace('%', "%25").replace(':', "%3A").replace('/', "%2F").into()
    } else {
        device.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::slot_of;
    use super::*;

    /// A script takes keys of one partition, and a Redis Cluster only those of one slot.
    #[test]
    fn the_keys_of_a_partition_share_a_slot() {
        let (keys, letter) = (Keys::new("mill"), EntryId::new(7, 1));
        for p in [PartitionId(0), PartitionId(3), PartitionId(1_023)] {
            let all = [
                keys.log(p),
                keys.seq(p),
                keys.head(p),
                keys.epoch(p),
                keys.closed(p),
                keys.dedup(p, "u{1}", "d{2}"),
                keys.replay(p),
                keys.checkpoint(p),
                keys.delivered(p),
                keys.redeliver(p, "g{3}"),
                keys.retried(p, "g{3}", letter),
                keys.attempts(p, "g{3}"),
                keys.members(p),
                keys.members_of_edge(p, "e{4}"),
                keys.member_edges(p),
                keys.leaving(p),
                keys.replay_position(p, "j{5}"),
                keys.flush(p),
                keys.owed(p),
            ];
            let slot = slot_of(p.to_string().as_bytes());
            assert!(all.iter().all(|key| slot_of(key.as_bytes()) == slot), "{all:?}");
            let (lease, token) = (keys.lease("archive", p), keys.lease_token("archive", p));
            assert!([lease, token].iter().all(|key| slot_of(key.as_bytes()) == slot));
        }
    }
}
