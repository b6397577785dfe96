//! Filling an emptied partition from what the archive knows, and what it then owes its groups.
//!
//! **Invariant:** the epoch is set last. A crash anywhere before leaves a partition that refuses to
//! publish and is filled again; every step may be repeated.

use super::script::script;
use super::{Arg, Redis, Reply, Script};
use crate::error::{Error, Kind, Result};
use crate::model::{Cursor, Entry, EntryId, PartitionId, Room};

static RESTORE_ROOMS: Script = script!("restore rooms", "restore_rooms.lua");
static INITIALISE: Script = script!("initialise a partition", "initialise.lua");
static POSITIONS: Script = script!("read the positions of a partition", "positions.lua");
static LOG_LOST: Script = script!("give a log up that has lost its end", "log_lost.lua");
static REDELIVER_OWED: Script = Script::new("deliver what is owed", include_str!("lua/redeliver_owed.lua"));

/// Entries of a log that was lost before a group had settled them: they are in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owed {
    /// After this entry,
    pub after: EntryId,
    /// up to this one.
    pub upto: EntryId,
}

/// What a partition says of its groups, seen at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Positions {
    /// Up to where each group has settled everything.
    pub checkpoints: Vec<(String, EntryId)>,
    /// What is still to be copied from the archive.
    pub owed: Vec<(String, Owed)>,
    /// The groups that the log has.
    pub groups: Vec<String>,
}

impl Owed {
    fn text(self) -> String {
        format!("{} {}", self.after, self.upto)
    }

    fn parse(text: &str) -> Result<Self> {
        let corrupt = || Error::new(Kind::Corrupt, format!("read what a group is owed: {text:?}"));
        let (after, upto) = text.split_once(' ').ok_or_else(corrupt)?;
        Ok(Self { after: after.parse()?, upto: upto.parse()? })
    }
}

impl Redis {
    /// Puts rooms back where the archive left them: name, last entry and number, whether closed.
    /// What is further on stays as it is.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn restore_rooms<'a>(
        &self,
        p: PartitionId,
        rooms: impl Iterator<Item = (&'a Room, Cursor, bool)>,
    ) -> Result<()> {
        let keys = vec![self.keys().seq(p), self.keys().head(p), self.keys().closed(p)];
        let mut args = Vec::new();
        for (room, head, closed) in rooms {
            args.extend([Arg::from(room.as_str()), head.seq.into(), head.id.to_string().into()]);
            args.push(u64::from(closed).into());
        }
        RESTORE_ROOMS.run(self, keys, args).await.map(|_| ())
    }

    /// Makes the groups of a partition at their checkpoints, lets the log go on after `last`, notes
    /// what groups are owed of what is archived up to `archived`, and sets `epoch`. A log that ends before
    /// `archived` loses its remains before `remains`, which the caller has found in the archive.
    /// `false`: the partition was initialised already, and nothing was done.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn initialise(
        &self,
        p: PartitionId,
        epoch: &str,
        last: EntryId,
        archived: EntryId,
        remains: EntryId,
        groups: &[(String, EntryId)],
    ) -> Result<bool> {
        let ids = [last, archived, remains].map(|id| Arg::from(id.to_string()));
        let mut args = vec![Arg::from(epoch)];
        args.extend(ids);
        for (group, checkpoint) in groups {
            args.extend([Arg::from(group.as_str()), checkpoint.to_string().into()]);
        }
        Ok(INITIALISE.run(self, self.partition_keys(p), args).await?.int()? == 1)
    }

    /// The last id that a log has given, also if that entry is gone; nothing without a log.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn last_generated_id(&self, p: PartitionId) -> Result<Option<EntryId>> {
        let log = self.keys().log(p);
        if self.command("EXISTS", vec![log.as_str()]).await?.int()? == 0 {
            return Ok(None);
        }
        let info = self.command("XINFO", vec!["STREAM", log.as_str()]).await?.list()?;
        let mut pairs = info.chunks_exact(2);
        let found = pairs.find(|pair| pair[0].text().is_ok_and(|name| name == "last-generated-id"));
        found.map(|pair| pair[1].text()?.parse()).transpose()
    }

    /// Takes the epoch from a partition in which the entry `seen` was seen under `epoch`, if its log ends
    /// before it now: the archive worker then compares it with the archive before it goes on.
    ///
    /// # Errors
    /// As Redis answers. Repeating is harmless.
    pub async fn log_lost(&self, p: PartitionId, epoch: &str, seen: EntryId) -> Result<bool> {
        let keys = vec![self.keys().epoch(p), self.keys().log(p)];
        Ok(LOG_LOST.run(self, keys, vec![Arg::from(epoch), seen.to_string().into()]).await?.int()? == 1)
    }

    /// Has a group read the log again after `after`, and takes its checkpoint back.
    ///
    /// # Errors
    /// [`Kind::NoGroup`]; otherwise as Redis answers.
    pub async fn rewind_group(&self, p: PartitionId, group: &str, after: EntryId) -> Result<()> {
        let (log, after) = (self.keys().log(p), after.to_string());
        self.command("HSET", vec![self.keys().checkpoint(p), group.to_owned(), after.clone()]).await?;
        self.command("XGROUP", vec!["SETID", log.as_str(), group, after.as_str()]).await.map(|_| ())
    }

    /// What a partition says of its groups; nothing if it isn't initialised.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn positions(&self, p: PartitionId) -> Result<Option<Positions>> {
        let reply = POSITIONS.run(self, self.partition_keys(p), Vec::new()).await?;
        if reply.is_nil() {
            return Ok(None);
        }
        let mut parts = reply.list()?.into_iter();
        let mut next = || parts.next().unwrap_or(Reply::Nil).list();
        let checkpoints = pairs(next()?, |id| id.parse())?;
        let owed = pairs(next()?, Owed::parse)?;
        let groups = next()?.iter().map(|name| Ok(name.text()?.to_owned())).collect::<Result<_>>()?;
        Ok(Some(Positions { checkpoints, owed, groups }))
    }

    /// Copies entries that a group is owed into its redeliver stream, and notes what is left of
    /// `owed` after them (`None`: nothing), in one step. `false`: another owner came first.
    ///
    /// # Errors
    /// As Redis answers. After no answer, read [`Redis::positions`] again: it says how far it came.
    pub async fn redeliver_owed(
        &self,
        p: PartitionId,
        group: &str,
        owed: Owed,
        left: Option<Owed>,
        entries: &[Entry],
    ) -> Result<bool> {
        let keys = vec![self.keys().owed(p), self.keys().redeliver(p, group)];
        let mut args = vec![Arg::from(group), owed.text().into(), left.map(Owed::text).unwrap_or_default().into()];
        for entry in entries {
            args.extend([Arg::from(entry.id.to_string()), entry.room.as_str().into(), entry.seq.into()]);
            args.extend([Arg::from(entry.kind.letter()), entry.envelope.clone().into()]);
        }
        Ok(REDELIVER_OWED.run(self, keys, args).await?.int()? == 1)
    }

    /// Asks the archive to write at once what it holds up to `upto`. The wish is forgotten after a
    /// while: repeat it until it is fulfilled.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn ask_flush(&self, p: PartitionId, upto: EntryId) -> Result<()> {
        let args = vec![self.keys().flush(p), upto.to_string(), "PX".into(), FLUSH_WISH_MS.to_string()];
        self.command("SET", args).await.map(|_| ())
    }

    /// Up to where the archive is asked to write at once what it holds.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn flush_asked(&self, p: PartitionId) -> Result<Option<EntryId>> {
        let reply = self.command("GET", vec![self.keys().flush(p)]).await?;
        reply.optional_text()?.map(str::parse).transpose()
    }

    fn partition_keys(&self, p: PartitionId) -> Vec<String> {
        let names = self.keys();
        vec![names.epoch(p), names.log(p), names.seq(p), names.checkpoint(p), names.owed(p)]
    }
}

/// How long a wish to flush is remembered: longer than the worker's polls and the asker's repeats.
const FLUSH_WISH_MS: u64 = 2_000;

fn pairs<T>(parts: Vec<Reply>, parse: impl Fn(&str) -> Result<T>) -> Result<Vec<(String, T)>> {
    parts.chunks_exact(2).map(|pair| Ok((pair[0].text()?.to_owned(), parse(pair[1].text()?)?))).collect()
}
