//! The archive's tables by month: made ahead of need, dropped when retention says so.
//!
//! **Invariant:** an insert never waits for a month: what has none goes to the default partition.
//!
//! # Design
//! A month is made as a table of its own and then attached. `CREATE TABLE … PARTITION OF` would lock
//! the whole archive against reading; attaching locks only the default partition, and only for as
//! long as it takes to see that nothing of the month is in it. Every lock is waited for briefly and
//! asked for again later.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{AssertSqlSafe, Connection as _};
use tracing::{info, warn};

use super::Store;
use super::door::{Lent, within};
use super::failure::failed;
use crate::error::Result;

/// Months that are made ahead of the present one.
pub(super) const MONTHS_AHEAD: u32 = 2;
/// Key of the advisory lock under which months are made and dropped: "mill" in ASCII.
const LOCK: i64 = 0x6d69_6c6c;
/// Years whose months are made on demand. An id outside is a clock gone wrong: the default takes it.
const YEARS: std::ops::RangeInclusive<i32> = 2000..=2100;

const TABLES: [&str; 2] = ["messages", "room_events"];

/// A month of the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month {
    year: i32,
    month: u8,
}

impl Month {
    /// The month (UTC) of a time in milliseconds since the Unix epoch; nothing outside the years
    /// for which months are made.
    pub fn of(ms: u64) -> Option<Self> {
        let secs = i64::try_from(ms / 1_000).ok()?;
        let at = time::OffsetDateTime::from_unix_timestamp(secs).ok()?;
        YEARS.contains(&at.year()).then(|| Self { year: at.year(), month: at.month().into() })
    }

    /// The month after this one.
    #[must_use]
    pub fn next(self) -> Self {
        match self.month {
            12 => Self { year: self.year + 1, month: 1 },
            month => Self { year: self.year, month: month + 1 },
        }
    }

    /// Its first millisecond.
    pub fn start_ms(self) -> u64 {
        let month = time::Month::try_from(self.month).unwrap_or(time::Month::January);
        let date = time::Date::from_calendar_date(self.year, month, 1);
        let secs = date.map_or(0, |date| date.midnight().assume_utc().unix_timestamp());
        u64::try_from(secs).unwrap_or_default() * 1_000
    }

    fn parse(suffix: &str) -> Option<Self> {
        let (year, month) = suffix.strip_prefix('y')?.split_once('m')?;
        let month = Self { year: year.parse().ok()?, month: month.parse().ok()? };
        (YEARS.contains(&month.year) && (1..=12).contains(&month.month)).then_some(month)
    }
}

/// The end of a table's name: `y2026m01`.
impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "y{:04}m{:02}", self.year, self.month)
    }
}

/// Months that this process knows to be there, or could not make: a batch asks only once.
#[derive(Debug, Clone, Default)]
pub(super) struct Known(Arc<Mutex<HashSet<Month>>>);

impl Known {
    /// Whether `month` is seen for the first time.
    fn first_seen(&self, month: Month) -> bool {
        // A panic while the lock was held can't leave a set half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(month)
    }

    fn forget(&self, month: Month) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&month);
    }
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

impl Store {
    /// Makes the present month and the next ones, unless they are there.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn make_months_ahead(&self) -> Result<()> {
        let Some(mut month) = Month::of(now_ms()) else { return Ok(()) };
        for _ in 0..=MONTHS_AHEAD {
            if self.months.first_seen(month)
                && let Err(error) = self.make_month(month).await
            {
                self.months.forget(month);
                return Err(error);
            }
            month = month.next();
        }
        Ok(())
    }

    /// Makes the months of a batch that this process hasn't met before. Failing is no harm: the
    /// default partition takes the rows.
    pub(super) async fn make_months_of(&self, ms: impl Iterator<Item = i64>) {
        let mut last = None;
        for month in ms.filter_map(|ms| Month::of(super::rows::unsigned(ms))) {
            if last.replace(month) == Some(month) || !self.months.first_seen(month) {
                continue;
            }
            if let Err(error) = self.make_month(month).await {
                warn!(%month, %error, "could not make {month} of the archive: its rows go to the default partition");
            }
        }
    }

    async fn make_month(&self, month: Month) -> Result<()> {
        for table in TABLES {
            let doing = format!("make the month {table}_{month}");
            let mut lent = self.pool.lend_for(&doing).await?;
            let made = make_table(&mut lent, table, month).await.map_err(|e| failed(&doing, e));
            if lent.back(made)? {
                info!(%month, table, "made {table}_{month} of the archive");
            }
        }
        Ok(())
    }

    /// The months that are there, oldest first.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn months(&self) -> Result<Vec<Month>> {
        let mut months: Vec<Month> = self.tables().await?.into_iter().map(|(_, month)| month).collect();
        months.sort_unstable();
        months.dedup();
        Ok(months)
    }

    async fn tables(&self) -> Result<Vec<(&'static str, Month)>> {
        let mut found = Vec::new();
        for table in TABLES {
            let names: Vec<String> = sqlx::query_scalar(
                "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
                 WHERE i.inhparent = to_regclass($1)",
            )
            .bind(table)
            .fetch_all(&self.pool)
            .await
            .map_err(|e| failed("list the months of the archive", e))?;
            let prefix = format!("{table}_");
            let months = names.iter().filter_map(|name| Month::parse(name.strip_prefix(&prefix)?));
            found.extend(months.map(|month| (table, month)));
        }
        Ok(found)
    }

    /// Drops every month that ended longer ago than `max_age`, and what is as old elsewhere. Says how
    /// many tables went. What is locked is left for the next time.
    ///
    /// It is `now_ms` by the clock of ids, which is Redis'; if Postgres says that it is earlier, then that:
    /// no single clock that is wrong costs what is young.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn drop_months(&self, max_age: Duration, now_ms: u64) -> Result<usize> {
        let age = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
        let theirs: i64 = sqlx::query_scalar("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&self.pool)
            .await
            .map_err(|e| failed("read the clock of Postgres", e))?;
        let Some(cutoff) = now_ms.min(super::rows::unsigned(theirs)).checked_sub(age) else { return Ok(0) };
        let mut dropped = 0;
        for (table, month) in self.tables().await? {
            if month.next().start_ms() > cutoff {
                continue;
            }
            let doing = format!("drop the month {table}_{month}");
            let mut lent = self.pool.lend_for(&doing).await?;
            let drop = format!("DROP TABLE IF EXISTS {table}_{month}");
            let gone = change(&mut lent, None, drop).await.map_err(|e| failed(&doing, e));
            lent.back(gone)?;
            self.months.forget(month);
            dropped += 1;
            info!(%month, table, "dropped {table}_{month} of the archive: older than retention.archive_max_age");
        }
        self.delete_before(cutoff).await?;
        Ok(dropped)
    }

    /// What is not kept by month: the default partitions, and sessions that ended.
    async fn delete_before(&self, cutoff: u64) -> Result<()> {
        for statement in [
            "DELETE FROM messages_default WHERE ms < $1",
            "DELETE FROM room_events_default WHERE ms < $1",
            "DELETE FROM room_sessions WHERE left_ms < $1",
        ] {
            sqlx::query(statement)
                .bind(super::rows::signed(cutoff))
                .execute(&self.pool)
                .await
                .map_err(|e| failed("delete old rows of the archive", e))?;
        }
        Ok(())
    }
}

/// Makes the table of a month; `false` if it is there.
async fn make_table(lent: &mut Lent, table: &str, month: Month) -> Result<bool, sqlx::Error> {
    let (from, to) = (month.start_ms(), month.next().start_ms());
    // Names and numbers are ours: a fixed table, and digits.
    let statements = format!(
        "CREATE TABLE {table}_{month} (LIKE {table} INCLUDING ALL);
         ALTER TABLE {table} ATTACH PARTITION {table}_{month} FOR VALUES FROM ({from}) TO ({to})"
    );
    change(lent, Some(format!("{table}_{month}")), statements).await
}

/// Changes tables in a transaction, unless there is a table of this name. One process at a time, and
/// nobody waits long for a table that is being read.
async fn change(lent: &mut Lent, unless: Option<String>, statements: String) -> Result<bool, sqlx::Error> {
    let patience = lent.patience();
    let mut transaction = within(patience, lent.begin()).await?;
    within(patience, sqlx::raw_sql("SET LOCAL lock_timeout = '2s'").execute(&mut *transaction)).await?;
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK);
    within(patience, lock.execute(&mut *transaction)).await?;
    let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(unless);
    if within(patience, there.fetch_one(&mut *transaction)).await? {
        return Ok(false);
    }
    within(patience, sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *transaction)).await?;
    within(patience, transaction.commit()).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_where_the_one_before_ends() {
        let december = Month::of(1_798_700_000_000).unwrap();
        assert_eq!(december.to_string(), "y2026m12");
        assert_eq!(december.next().to_string(), "y2027m01");
        assert_eq!(Month::of(december.next().start_ms()), Some(december.next()));
        assert_eq!(Month::of(december.next().start_ms() - 1), Some(december));
        assert_eq!(Month::parse("y2026m12"), Some(december));
    }

    #[test]
    fn a_clock_gone_wrong_makes_no_month() {
        assert_eq!(Month::of(0), None);
        assert_eq!(Month::of(u64::MAX), None);
    }
}
