//! Dead letters: entries that a group gave up; and copies that a group is to have again.
//!
//! **Invariant:** an entry is among the dead letters before it is acknowledged. It may be there
//! twice if a worker died in between; `partition` and `original` tell.

use bytes::Bytes;

use super::{Arg, RawEntry, Redis};
use crate::error::{Error, Kind, Result};
use crate::model::{EntryId, PartitionId};

/// Longest text of an error that is kept: enough for a person, and no way to fill Redis.
pub const DEAD_ERROR_BYTES_MAX: usize = 1_024;

/// Fields that a dead letter adds to those of its entry.
const OWN_FIELDS: [&str; 7] = ["partition", "original", "reason", "error", "attempts", "first", "last"];

/// How many dead letters are looked back over to see whether a park that got no answer happened.
const LOOK_BACK: u64 = 256;

/// An entry that a group gave up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its partition.
    pub partition: PartitionId,
    /// Its id where it came from: in the log, or in the group's own stream.
    pub original: EntryId,
    /// A word of a closed set.
    pub reason: String,
    /// What was wrong, for people.
    pub error: String,
    /// How often it was delivered.
    pub attempts: u64,
    /// When it was first delivered, as far as its last owner knew; milliseconds of Unix time.
    pub first_ms: u64,
    /// When it was given up; milliseconds of Unix time.
    pub last_ms: u64,
    /// The entry's own fields: `r s k e` if it is one of the log.
    pub fields: Vec<(Bytes, Bytes)>,
}

impl DeadLetter {
    /// Reads an entry of `mill:dead:<group>`.
    ///
    /// # Errors
    /// [`Kind::Corrupt`] if it is none.
    pub fn read(raw: &RawEntry) -> Result<Self> {
        let missing = |name: &str| Error::new(Kind::Corrupt, format!("read dead letter {}: no {name}", raw.id));
        let text = |name: &str| raw.text(name).ok_or_else(|| missing(name));
        let number = |name: &str| text(name)?.parse::<u64>().map_err(|_| missing(name));
        Ok(Self {
            partition: PartitionId(text("partition")?.parse().map_err(|_| missing("partition"))?),
            original: text("original")?.parse()?,
            reason: text("reason")?.to_owned(),
            error: text("error")?.to_owned(),
            attempts: number("attempts")?,
            first_ms: number("first")?,
            last_ms: number("last")?,
            fields: raw.fields.iter().filter(|(name, _)| !is_own(name)).cloned().collect(),
        })
    }

    /// The entry as it was, under its original id.
    pub fn raw(&self) -> RawEntry {
        RawEntry { id: self.original, fields: self.fields.clone() }
    }

    fn args(&self, key: String, max: u64) -> Vec<Arg> {
        let mut args = vec![Arg::from(key), "MAXLEN".into(), "~".into(), max.into(), "*".into()];
        let values = [
            self.partition.to_string(),
            self.original.to_string(),
            self.reason.clone(),
            bounded(&self.error).to_owned(),
            self.attempts.to_string(),
            self.first_ms.to_string(),
            self.last_ms.to_string(),
        ];
        for (name, value) in OWN_FIELDS.into_iter().zip(values) {
            args.extend([Arg::from(name), value.into()]);
        }
        for (name, value) in self.fields.iter().filter(|(name, _)| !is_own(name)) {
            args.extend([Arg::from(name.clone()), value.clone().into()]);
        }
        args
    }
}

impl Redis {
    /// Moves an entry to the group's dead letters, of which about `max` are kept. With `perhaps_there`
    /// (an earlier attempt got no answer, or an earlier owner died) it looks first.
    ///
    /// # Errors
    /// As Redis answers: after [`Kind::RedisUnavailable`] say `perhaps_there`.
    pub async fn park(&self, group: &str, letter: &DeadLetter, max: u64, perhaps_there: bool) -> Result<()> {
        if perhaps_there && self.is_parked(group, letter).await? {
            return Ok(());
        }
        self.command("XADD", letter.args(self.keys().dead(group), max)).await.map(|_| ())
    }

    /// The group's dead letters with `from ≤ id ≤ to` of their own ids, oldest first.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn dead_letters(
        &self,
        group: &str,
        from: EntryId,
        to: EntryId,
        count: u64,
    ) -> Result<Vec<(EntryId, DeadLetter)>> {
        let entries = self.range(&self.keys().dead(group), from, to, count).await?;
        entries.iter().map(|raw| Ok((raw.id, DeadLetter::read(raw)?))).collect()
    }

    /// Removes dead letters by their own ids; says how many there were.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn purge_dead(&self, group: &str, ids: &[EntryId]) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut args = vec![Arg::from(self.keys().dead(group))];
        args.extend(ids.iter().map(|id| Arg::from(id.to_string())));
        Ok(u64::try_from(self.command("XDEL", args).await?.int()?).unwrap_or(0))
    }

    /// Has one group get an entry again, marked as replayed: a copy in its redeliver stream.
    ///
    /// # Errors
    /// As Redis answers; repeated after no answer, the group may get it twice.
    pub async fn redeliver(&self, p: PartitionId, group: &str, entry: &RawEntry) -> Result<EntryId> {
        let mut args = vec![Arg::from(self.keys().redeliver(p, group)), "*".into()];
        args.extend([Arg::from("i"), entry.id.to_string().into()]);
        for (name, value) in entry.fields.iter().filter(|(name, _)| &name[..] != b"i") {
            args.extend([Arg::from(name.clone()), value.clone().into()]);
        }
        self.command("XADD", args).await?.text()?.parse()
    }

    async fn is_parked(&self, group: &str, letter: &DeadLetter) -> Result<bool> {
        let newest = self.range_back(&self.keys().dead(group), EntryId::MAX, EntryId::ZERO, LOOK_BACK).await?;
        let (partition, original) = (letter.partition.to_string(), letter.original.to_string());
        Ok(newest
            .iter()
            .any(|raw| raw.text("partition") == Some(&partition) && raw.text("original") == Some(&original)))
    }
}

fn is_own(name: &Bytes) -> bool {
    OWN_FIELDS.iter().any(|own| own.as_bytes() == &name[..])
}

fn bounded(text: &str) -> &str {
    let mut end = text.len().min(DEAD_ERROR_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_cut_at_a_character() {
        let text = "é".repeat(DEAD_ERROR_BYTES_MAX);
        assert_eq!(bounded(&text).len(), DEAD_ERROR_BYTES_MAX);
        assert_eq!(bounded(&format!("a{text}")).len(), DEAD_ERROR_BYTES_MAX - 1);
    }
}
