//! Who is in which room: scripts that count connections and write the events of it.
//!
//! **Invariant:** a connection is counted once however often its join is repeated, and a stay ends
//! at the latest when its edge is gone and the debounce is over.

use std::time::Duration;

use super::script::script;
use super::{Arg, Redis, Script, Seen};
use crate::error::Result;
use crate::model::{Event, EventName, Item, PartitionId, Room, UserId};

static MEMBERS: Script = script!("count members", "members.lua");
static SWEEP: Script = script!("sweep members", "sweep.lua");
static CLOSE_ROOM: Script = script!("close a room", "close_room.lua");

/// What a connection did in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It joined.
    Join,
    /// It left.
    Leave,
    /// It ended; the user may be back soon.
    End,
}

/// One step of one connection.
#[derive(Debug, Clone)]
pub struct MemberStep {
    /// What it did.
    pub step: Step,
    /// Where.
    pub room: Room,
    /// Whose connection.
    pub user: UserId,
    /// The connection's name, unique over all edges.
    pub connection: String,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stepped {
    /// It counts.
    Counted,
    /// It was known already.
    Known,
    /// The room is closed: nobody is counted in it any more.
    RoomClosed,
}

impl Redis {
    /// Counts steps of one edge in rooms of one partition, and writes the events that follow. `seen`: entries that
    /// the edge knows to be in the log; one that ends before it has lost writes, and is not written to.
    ///
    /// # Errors
    /// [`Kind::NotInitialised`](crate::error::Kind::NotInitialised) without an epoch, or if the log has lost `seen`;
    /// otherwise as Redis answers. Repeating is harmless.
    pub async fn count_members(
        &self,
        partition: PartitionId,
        edge: &str,
        debounce: Duration,
        seen: &[Seen],
        steps: &[MemberStep],
    ) -> Result<Vec<Stepped>> {
        let names = self.keys();
        let keys = vec![
            names.epoch(partition),
            names.log(partition),
            names.seq(partition),
            names.head(partition),
            names.closed(partition),
            names.members(partition),
            names.members_of_edge(partition, edge),
            names.member_edges(partition),
            names.leaving(partition),
        ];
        let mut args = vec![Arg::from(edge), millis(debounce).into(), Arg::from(seen.len() as u64)];
        args.extend(seen.iter().flat_map(|seen| [Arg::from(seen.epoch.as_str()), seen.id.to_string().into()]));
        for step in steps {
            let (letter, event) = match step.step {
                Step::Join => ("j", EventName::UserJoined),
                Step::Leave => ("l", EventName::UserLeft),
                Step::End => ("d", EventName::UserLeft),
            };
            let event = Item::Event(Event { event: event.as_str(), user: Some(&step.user), data: None });
            args.extend([Arg::from(letter), Arg::from(step.room.as_str()), Arg::from(step.user.as_str())]);
            args.extend([Arg::from(step.connection.as_str()), Arg::from(event.encode())]);
        }
        let answers = MEMBERS.run(self, keys, args).await?.list()?;
        let stepped = |answer: &super::Reply| {
            Ok(match answer.int()? {
                -1 => Stepped::RoomClosed,
                0 => Stepped::Known,
                _ => Stepped::Counted,
            })
        };
        answers.iter().map(stepped).collect()
    }

    /// Ends the stays of a partition whose time is over, `most` at once, and those on edges that
    /// are gone. Gives how many steps it did: fewer than `most` means that nothing is left for now.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn sweep_members(&self, partition: PartitionId, debounce: Duration, most: u64) -> Result<u64> {
        let names = self.keys();
        let mut gone = Vec::new();
        for edge in self.command("SMEMBERS", vec![names.member_edges(partition)]).await?.list()? {
            let edge = edge.text()?.to_owned();
            if self.command("EXISTS", vec![names.edge_alive(&edge)]).await?.int()? == 0 {
                gone.push(edge);
            }
        }
        let mut keys = vec![
            names.epoch(partition),
            names.log(partition),
            names.seq(partition),
            names.head(partition),
            names.members(partition),
            names.member_edges(partition),
            names.leaving(partition),
        ];
        keys.extend(gone.iter().map(|edge| names.members_of_edge(partition, edge)));
        let mut args = vec![Arg::from(millis(debounce)), Arg::from(most)];
        args.extend(gone.iter().map(|edge| Arg::from(edge.as_str())));
        Ok(u64::try_from(SWEEP.run(self, keys, args).await?.int()?).unwrap_or(0))
    }

    /// Closes a room: whether that is new; nothing if there is no such room.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn close_room(&self, partition: PartitionId, room: &Room) -> Result<Option<bool>> {
        let names = self.keys();
        let keys = vec![
            names.epoch(partition),
            names.log(partition),
            names.seq(partition),
            names.head(partition),
            names.closed(partition),
        ];
        let event = Item::Event(Event { event: EventName::RoomClosed.as_str(), user: None, data: None });
        let args = vec![Arg::from(room.as_str()), Arg::from(event.encode())];
        Ok(match CLOSE_ROOM.run(self, keys, args).await?.int()? {
            -1 => None,
            closed => Some(closed == 1),
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
