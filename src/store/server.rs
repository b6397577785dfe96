//! What Postgres tells about itself and the tables, for operators.

use std::collections::BTreeSet;

use super::Store;
use super::connection::MIGRATIONS;
use super::failure::failed;
use super::months::{MONTHS_AHEAD, Month, now_ms};
use super::rows::unsigned;
use crate::error::Result;

/// The server that a store talks to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its version as a number: 150004 is 15.4.
    pub version: u32,
    /// Its version as it calls itself.
    pub version_text: String,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// Whether transactions may not write.
    pub read_only: bool,
    /// `synchronous_commit` of our transactions.
    pub synchronous_commit: String,
    /// `fsync` of the server.
    pub fsync: String,
    /// Connections that it takes from accounts like ours.
    pub connections_max: u32,
    /// Connections that it has now, ours included.
    pub connections: u32,
    /// Where its data is; nothing if this account may not see that.
    pub data_directory: Option<String>,
    /// Its clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// How the tables are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    /// Migrations of this program that were not applied.
    pub pending: Vec<String>,
    /// Migrations that this program doesn't know: of a version to come.
    pub unknown: Vec<i64>,
}

impl Store {
    /// What the server says of itself.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn server(&self) -> Result<Server> {
        let doing = "ask Postgres about itself";
        let (version, version_text, in_recovery, read_only, synchronous_commit, fsync): (
            i32,
            String,
            bool,
            bool,
            String,
            String,
        ) = sqlx::query_as(
            "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                    pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
                    current_setting('synchronous_commit'), current_setting('fsync')",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|e| failed(doing, e))?;
        let (connections_max, connections, data_directory, now_ms): (i32, i64, Option<String>, i64) = sqlx::query_as(
            "SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
                    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
                    CASE WHEN pg_has_role('pg_read_all_settings', 'MEMBER') THEN current_setting('data_directory') END,
                    (extract(epoch FROM clock_timestamp()) * 1000)::bigint",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(|e| failed(doing, e))?;
        Ok(Server {
            version: u32::try_from(version).unwrap_or_default(),
            version_text,
            in_recovery,
            read_only,
            synchronous_commit,
            fsync,
            connections_max: u32::try_from(connections_max).unwrap_or_default(),
            connections: u32::try_from(connections).unwrap_or_default(),
            data_directory,
            now_ms: unsigned(now_ms),
        })
    }

    /// Which migrations are not applied, and which are not ours.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn tables_state(&self) -> Result<Tables> {
        let applied: Result<Vec<i64>, _> =
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&self.pool).await;
        let applied: BTreeSet<i64> = match applied {
            Ok(applied) => applied.into_iter().collect(),
            // 42P01: no such table, so nothing was ever migrated.
            Err(e) if e.as_database_error().and_then(|e| e.code()).as_deref() == Some("42P01") => BTreeSet::new(),
            Err(e) => return Err(failed("read the version of the archive", e)),
        };
        let ours: BTreeSet<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
        let pending = MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version));
        Ok(Tables {
            pending: pending.map(|migration| format!("{:04} {}", migration.version, migration.description)).collect(),
            unknown: applied.difference(&ours).copied().collect(),
        })
    }

    /// The months, of those that should be there by now, that are not.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn months_missing(&self) -> Result<Vec<Month>> {
        let there = self.months().await?;
        let first = Month::of(now_ms());
        let wanted = std::iter::successors(first, |month| Some(month.next())).take(MONTHS_AHEAD as usize + 1);
        Ok(wanted.filter(|month| !there.contains(month)).collect())
    }
}
