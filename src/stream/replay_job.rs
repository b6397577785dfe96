//! Replays to a group, so that one that was interrupted goes on where it was.
//!
//! **Invariant:** a page of copies and the position after it are written by one script, so a job that
//! goes on, or repeats a call that got no answer, copies nothing twice.
//!
//! # Design
//! A job's description is one hash; its positions are keys of their partitions, because a script can
//! only touch keys of one slot.

use super::{Arg, Redis, Reply, Script};
use crate::error::{Error, Kind, Result};
use crate::model::{Entry, EntryId, PartitionId, Room};

/// How long a job that nobody works on can be resumed.
const LIFE_MS: u64 = 7 * 24 * 3_600 * 1_000;

static COPY: Script = Script::new("copy entries that are replayed", include_str!("lua/copy_replayed.lua"));

/// Which entries a group is to have again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayJob {
    /// The group.
    pub group: String,
    /// The first entry, or where it would be.
    pub from: EntryId,
    /// The last entry, or where it would be.
    pub until: EntryId,
    /// Only this room.
    pub room: Option<Room>,
}

impl Redis {
    /// Keeps a job's description.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn save_replay_job(&self, name: &str, job: &ReplayJob) -> Result<()> {
        let key = self.keys().replay_job(name);
        let room = job.room.as_ref().map_or("", |room| room.as_str());
        let (from, until) = (job.from.to_string(), job.until.to_string());
        let fields = ["group", &job.group, "from", &from, "until", &until, "room", room];
        let args: Vec<&str> = std::iter::once(key.as_str()).chain(fields).collect();
        self.command("HSET", args).await?;
        self.command("PEXPIRE", vec![Arg::from(key), LIFE_MS.into()]).await.map(|_| ())
    }

    /// A job's description, if it is still there.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it can't be read; else as Redis answers.
    pub async fn replay_job(&self, name: &str) -> Result<Option<ReplayJob>> {
        let key = self.keys().replay_job(name);
        let parts = self.command("HMGET", vec![key.as_str(), "group", "from", "until", "room"]).await?.list()?;
        if parts.iter().all(Reply::is_nil) {
            return Ok(None);
        }
        let text = |at: usize| {
            let missing = || Error::new(Kind::Corrupt, format!("read the replay job {name}"));
            parts.get(at).and_then(|part| part.text().ok()).ok_or_else(missing)
        };
        let room = match text(3)? {
            "" => None,
            room => Some(Room::new(room)?),
        };
        Ok(Some(ReplayJob { group: text(0)?.to_owned(), from: text(1)?.parse()?, until: text(2)?.parse()?, room }))
    }

    /// Forgets a job that is done. Its positions stay until they expire: whoever else was working on
    /// it must find that nothing is left to do.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn forget_replay_job(&self, name: &str) -> Result<()> {
        self.command("DEL", vec![self.keys().replay_job(name)]).await.map(|_| ())
    }

    /// Up to where a job has come in a partition.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn replay_position(&self, p: PartitionId, name: &str) -> Result<Option<EntryId>> {
        let reply = self.command("GET", vec![self.keys().replay_position(p, name)]).await?;
        reply.optional_text()?.map(str::parse).transpose()
    }

    /// Copies `entries` for the group, and moves the job's position from `after` to `upto`, in one
    /// step. `false`: the job stands elsewhere, and nothing was done.
    ///
    /// # Errors
    /// As Redis answers. After no answer read the position again: it says whether it was done.
    pub async fn copy_replayed(
        &self,
        p: PartitionId,
        (name, group): (&str, &str),
        after: Option<EntryId>,
        upto: EntryId,
        entries: &[Entry],
    ) -> Result<bool> {
        let keys = vec![self.keys().replay_position(p, name), self.keys().redeliver(p, group)];
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let mut args = vec![Arg::from(after), upto.to_string().into(), LIFE_MS.into()];
        for entry in entries {
            args.extend([Arg::from(entry.id.to_string()), entry.room.as_str().into(), entry.seq.into()]);
            args.extend([Arg::from(entry.kind.letter()), entry.envelope.clone().into()]);
        }
        Ok(COPY.run(self, keys, args).await?.int()? == 1)
    }
}
