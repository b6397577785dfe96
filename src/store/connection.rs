//! A pool of connections that is made when it is first needed.

use std::str::FromStr;
use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::door::Pool;
use super::failure::failed;
use crate::config::DatabaseSettings;
use crate::error::{Error, Kind, Result};

pub(super) static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("config/migrations");

const MIGRATE: &str = "migrate the archive";

/// The archive. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) pool: Pool,
    pub(super) months: super::months::Known,
}

impl Store {
    /// A store on these settings. Connects when it is first used, so that a process can start, and
    /// say that it isn't ready, while Postgres is away.
    ///
    /// # Errors
    /// [`Kind::Config`] if the URL can't be read.
    pub fn connect(settings: &DatabaseSettings) -> Result<Self> {
        Self::with(settings, &[])
    }

    /// As [`Store::connect`], for who reads pages of rooms only. Whatever the room, they are found by an index, so each
    /// statement is planned once for a connection: planning was a tenth of what a catch-up cost. A plan that was made
    /// while a table was small serves when it has grown, so none may read all of a table.
    ///
    /// # Errors
    /// As [`Store::connect`].
    pub fn connect_for_pages(settings: &DatabaseSettings) -> Result<Self> {
        Self::with(settings, &[("plan_cache_mode", "force_generic_plan"), ("enable_seqscan", "off")])
    }

    fn with(settings: &DatabaseSettings, more: &[(&str, &str)]) -> Result<Self> {
        let timeout = settings.statement_timeout.as_millis().to_string();
        let options = PgConnectOptions::from_str(settings.url.expose())
            .map_err(|e| Error::new(Kind::Config, "read database.url (postgres://…)").caused_by(e))?
            .application_name("millstream")
            .options([
                ("statement_timeout", timeout.as_str()),
                // A transaction of ours whose connection got lost must not keep its locks for hours.
                ("idle_in_transaction_session_timeout", timeout.as_str()),
                ("timezone", "UTC"),
            ])
            .options(more.iter().copied());
        let connections = PgPoolOptions::new()
            .max_connections(settings.connections_max.max(1))
            .acquire_timeout(*settings.connect_timeout)
            .connect_lazy_with(options);
        let pool = Pool::new(connections, *settings.statement_timeout);
        Ok(Self { pool, months: super::months::Known::default() })
    }

    /// Brings the tables up to this program's version, and makes the months of now and ahead.
    /// Several processes may do so at the same time: an advisory lock lets one pass after the other.
    ///
    /// # Errors
    /// As Postgres answers; [`Kind::PostgresRejected`] if the tables are of a version to come.
    pub async fn migrate(&self) -> Result<()> {
        let mut lent = self.pool.lend_for(MIGRATE).await?;
        // One statement each, and some for the lock and the list of them.
        let patience = lent.patience().saturating_mul(MIGRATIONS.iter().count() as u32 + 4);
        let migrated = migrate(&mut lent, patience).await;
        lent.back(migrated)?;
        self.make_months_ahead().await
    }

    /// A round trip.
    ///
    /// # Errors
    /// [`Kind::PostgresUnavailable`] without an answer.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await.map(|_| ()).map_err(|e| failed("reach Postgres", e))
    }

    /// Whether the archive's tables are there and of this program's version.
    ///
    /// # Errors
    /// As Postgres answers.
    pub async fn is_migrated(&self) -> Result<bool> {
        let wanted = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default();
        let newest: Result<Option<i64>, _> =
            sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success").fetch_one(&self.pool).await;
        match newest {
            Ok(newest) => Ok(newest.is_some_and(|newest| newest >= wanted)),
            // 42P01: no such table, so nothing was ever migrated.
            Err(e) if e.as_database_error().and_then(|e| e.code()).as_deref() == Some("42P01") => Ok(false),
            Err(e) => Err(failed("read the version of the archive", e)),
        }
    }

    /// Ends all connections, after what they are doing.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

async fn migrate(connection: &mut PgConnection, patience: Duration) -> Result<()> {
    // `run` wants any connection of any lifetime, which the compiler can't show to be `Send`.
    let migrated = MIGRATIONS.run_direct(None, connection, false);
    match tokio::time::timeout(patience, migrated).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(sqlx::migrate::MigrateError::Execute(e))) => Err(failed(MIGRATE, e)),
        Ok(Err(other)) => Err(Error::new(Kind::PostgresRejected, MIGRATE).caused_by(other)),
        Err(_) => Err(Error::new(Kind::PostgresUnavailable, format!("{MIGRATE}: no end within {patience:?}"))),
    }
}
