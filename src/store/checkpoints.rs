//! Up to where each group has settled everything, and who may say so.

use sqlx::Connection as _;

use super::Store;
use super::door::{Lent, within};
use super::failure::failed;
use super::rows::{signed, unsigned};
use crate::error::{Error, Kind, Result};
use crate::model::{EntryId, PartitionId};

/// The group that writes the archive: its checkpoint covers the rows.
pub const ARCHIVE: &str = "archive";

/// The right to write a partition's rows, until somebody else takes it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ownership {
    /// The partition.
    pub partition: PartitionId,
    /// Grows with each owner; a lower one is refused.
    pub token: u64,
}

/// A group's position in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The group.
    pub group: String,
    /// The partition.
    pub partition: PartitionId,
    /// Everything up to here is settled.
    pub id: EntryId,
}

pub(super) fn id(ms: i64, n: i64) -> EntryId {
    EntryId::new(unsigned(ms), unsigned(n))
}

fn number(partition: PartitionId) -> i32 {
    i32::from(partition.0)
}

impl Store {
    /// Takes the right to write a partition, and says up to where its rows are complete. Every
    /// earlier owner's transactions fail from now on.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn take_over(&self, partition: PartitionId) -> Result<(Ownership, EntryId)> {
        let (token, ms, n): (i64, i64, i64) = sqlx::query_as(
            r#"INSERT INTO checkpoints ("group", partition, ms, n, token) VALUES ($1, $2, 0, 0, 1)
               ON CONFLICT ("group", partition) DO UPDATE SET token = checkpoints.token + 1, updated_at = now()
               RETURNING token, ms, n"#,
        )
        .bind(ARCHIVE)
        .bind(number(partition))
        .fetch_one(&self.pool)
        .await
        .map_err(|e| failed("take over a partition of the archive", e))?;
        Ok((Ownership { partition, token: unsigned(token) }, id(ms, n)))
    }

    /// A group's checkpoint in a partition.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn checkpoint(&self, group: &str, partition: PartitionId) -> Result<Option<EntryId>> {
        let found: Option<(i64, i64)> =
            sqlx::query_as(r#"SELECT ms, n FROM checkpoints WHERE "group" = $1 AND partition = $2"#)
                .bind(group)
                .bind(number(partition))
                .fetch_optional(&self.pool)
                .await
                .map_err(|e| failed("read a checkpoint", e))?;
        Ok(found.map(|(ms, n)| id(ms, n)))
    }

    /// Up to where a partition's rows are complete; the beginning if nothing was ever archived.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn archived(&self, partition: PartitionId) -> Result<EntryId> {
        Ok(self.checkpoint(ARCHIVE, partition).await?.unwrap_or_default())
    }

    /// The checkpoints of all groups in a partition.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn checkpoints(&self, partition: PartitionId) -> Result<Vec<Checkpoint>> {
        let found: Vec<(String, i64, i64)> =
            sqlx::query_as(r#"SELECT "group", ms, n FROM checkpoints WHERE partition = $1 ORDER BY 1"#)
                .bind(number(partition))
                .fetch_all(&self.pool)
                .await
                .map_err(|e| failed("read the checkpoints of a partition", e))?;
        Ok(found.into_iter().map(|(group, ms, n)| Checkpoint { group, partition, id: id(ms, n) }).collect())
    }

    /// Keeps the checkpoints of other groups, so that they can be made again where they were.
    ///
    /// # Errors
    /// [`Kind::Fenced`] if the partition has another owner now; else as Postgres answers.
    pub async fn save_checkpoints(&self, owner: Ownership, groups: &[(String, EntryId)]) -> Result<()> {
        let doing = "keep the checkpoints of the groups";
        let names: Vec<&str> = groups.iter().map(|(group, _)| group.as_str()).collect();
        let ms: Vec<i64> = groups.iter().map(|(_, id)| signed(id.ms)).collect();
        let n: Vec<i64> = groups.iter().map(|(_, id)| signed(id.n)).collect();
        let mut lent = self.pool.lend_for(doing).await?;
        let saved = match save(&mut lent, owner, &names, &ms, &n).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(fenced(owner)),
            Err(error) => Err(failed(doing, error)),
        };
        lent.back(saved)
    }

    /// Forgets a group of a partition, after it was removed on purpose.
    ///
    /// # Errors
    /// [`Kind::Fenced`] if the partition has another owner now; else as Postgres answers.
    pub async fn forget_group(&self, owner: Ownership, group: &str) -> Result<()> {
        let done = sqlx::query(
            r#"DELETE FROM checkpoints AS gone USING checkpoints AS mine
               WHERE gone."group" = $1 AND gone.partition = $2 AND gone."group" <> $3
                 AND mine."group" = $3 AND mine.partition = $2 AND mine.token = $4"#,
        )
        .bind(group)
        .bind(number(owner.partition))
        .bind(ARCHIVE)
        .bind(signed(owner.token))
        .execute(&self.pool)
        .await
        .map_err(|e| failed("forget a group", e))?;
        if done.rows_affected() == 0 { Err(fenced(owner)) } else { Ok(()) }
    }
}

/// The transaction of [`Store::save_checkpoints`]; `false` if the token is an old one.
async fn save(lent: &mut Lent, owner: Ownership, names: &[&str], ms: &[i64], n: &[i64]) -> Result<bool, sqlx::Error> {
    let patience = lent.patience();
    let mut transaction = within(patience, lent.begin()).await?;
    let held: Option<i32> = within(
        patience,
        sqlx::query_scalar(
            r#"SELECT 1 FROM checkpoints WHERE "group" = $1 AND partition = $2 AND token = $3 FOR SHARE"#,
        )
        .bind(ARCHIVE)
        .bind(number(owner.partition))
        .bind(signed(owner.token))
        .fetch_optional(&mut *transaction),
    )
    .await?;
    if held.is_none() {
        return Ok(false);
    }
    let saved = sqlx::query(
        r#"INSERT INTO checkpoints ("group", partition, ms, n)
           SELECT name, $1, ms, n FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS given (name, ms, n)
           WHERE name <> $5
           ON CONFLICT ("group", partition) DO UPDATE SET ms = excluded.ms, n = excluded.n, updated_at = now()"#,
    )
    .bind(number(owner.partition))
    .bind(names)
    .bind(ms)
    .bind(n)
    .bind(ARCHIVE)
    .execute(&mut *transaction);
    within(patience, saved).await?;
    within(patience, transaction.commit()).await?;
    Ok(true)
}

/// The error of an owner that isn't any more.
pub(super) fn fenced(owner: Ownership) -> Error {
    Error::new(Kind::Fenced, format!("write partition {} of the archive: it has another owner", owner.partition))
}
