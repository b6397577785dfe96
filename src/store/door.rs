//! Connections on loan. Every wait for an answer of Postgres ends here.
//!
//! Postgres bounds its statements itself (`statement_timeout`), but a server that is frozen, or that
//! vanished without a word, says nothing at all: a second bound, a little above that one, is ours.
//!
//! **Invariant:** a connection is used again only if what it was lent for ended well, or was refused
//! because of its data. Every other one is closed.
//!
//! # Design
//! A session keeps what it took over at its start (`default_transaction_read_only`, plans of tables
//! that have changed), so a session that was refused once may be refused for as long as it lives,
//! long after the cause is gone. And sqlx pings a connection before it is pooled again, for as long
//! as that takes: a silent server would cost one place in the pool each time, for ever.

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _, TryFutureExt as _, TryStreamExt as _, stream};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgPool, PgQueryResult, PgRow, PgStatement, PgTypeInfo, Postgres};
use sqlx::{Describe, Either, Execute, Executor, PgConnection, SqlStr};

use super::failure::{failed, is_of_the_data};
use crate::error::{Kind, Result};

/// So much longer than a statement may take we wait for Postgres to say that it took too long.
const MARGIN: Duration = Duration::from_secs(5);
/// Longest wait for the ping before a connection is pooled again.
const PING_WITHIN: Duration = Duration::from_secs(5);

/// The pool. Statements run on it as on sqlx's own.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connections: PgPool,
    patience: Duration,
}

/// A connection out of the pool. Dropping it closes it, unless it was [given back](Lent::back).
pub(super) struct Lent {
    connection: Option<PoolConnection<Postgres>>,
    patience: Duration,
    sound: bool,
}

impl Pool {
    pub(super) fn new(connections: PgPool, statement_timeout: Duration) -> Self {
        // For Postgres, nothing means no limit; for us, that a day is long enough.
        let statement = if statement_timeout.is_zero() { Duration::from_secs(86_400) } else { statement_timeout };
        Self { connections, patience: statement.saturating_add(MARGIN) }
    }

    /// A connection for several statements.
    pub(super) async fn lend(&self) -> Result<Lent, sqlx::Error> {
        // Bounded by the pool's own acquire_timeout, with connecting and greeting.
        let connection = self.connections.acquire().await?;
        Ok(Lent { connection: Some(connection), patience: self.patience, sound: false })
    }

    /// A connection for several statements, of which it will be said that they were `doing` this.
    pub(super) async fn lend_for(&self, doing: &str) -> Result<Lent> {
        self.lend().await.map_err(|e| failed(doing, e))
    }

    /// Closes all connections, once they are given back.
    pub(super) async fn close(&self) {
        self.connections.close().await;
    }
}

impl Lent {
    /// How long one statement may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Gives it back after what it was lent for.
    pub(super) fn back<T>(mut self, ended: Result<T>) -> Result<T> {
        self.sound = ended.as_ref().map_or_else(|e| matches!(e.kind(), Kind::PostgresData | Kind::Fenced), |_| true);
        ended
    }

    /// As [`Lent::back`], for what Postgres answered to a single statement.
    fn after<T>(mut self, answer: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.sound = answer.as_ref().map_or_else(is_of_the_data, |_| true);
        answer
    }
}

impl Deref for Lent {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("it is taken out only by drop")
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("it is taken out only by drop")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        match tokio::runtime::Handle::try_current() {
            // Dropped together with what becomes of it in time: the connection is closed then.
            Ok(runtime) if self.sound => {
                runtime.spawn(tokio::time::timeout(PING_WITHIN, connection.return_to_pool()));
            }
            // Says goodbye if it can within a few seconds.
            Ok(_) => connection.close_on_drop(),
            // The process ends.
            Err(_) => drop(connection.detach()),
        }
    }
}

/// What Postgres answers, if it answers within `patience`.
pub(super) async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => {
            let silent = format!("no answer within {patience:?}: it is frozen, or the network lost the connection");
            Err(sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, silent)))
        }
    }
}

impl<'p> Executor<'p> for &'_ Pool {
    type Database = Postgres;

    /// Everything at once: what we ask for is bounded.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let came = async move {
            let mut lent = pool.lend().await?;
            let came = within(pool.patience, lent.fetch_many(query).try_collect::<Vec<_>>()).await;
            lent.after(came)
        };
        came.map_ok(|came| stream::iter(came.into_iter().map(Ok))).try_flatten_stream().boxed()
    }

    /// Without a stream in between, which would cost more than the rows.
    fn fetch_all<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Vec<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let came = async move {
            let mut lent = pool.lend().await?;
            let came = within(pool.patience, lent.fetch_all(query)).await;
            lent.after(came)
        };
        came.boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let pool = self.clone();
        let came = async move {
            let mut lent = pool.lend().await?;
            let came = within(pool.patience, lent.fetch_optional(query)).await;
            lent.after(came)
        };
        came.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        let prepared = async move {
            let mut lent = pool.lend().await?;
            let prepared = within(pool.patience, lent.prepare_with(sql, parameters)).await;
            lent.after(prepared)
        };
        prepared.boxed()
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'p: 'e,
    {
        let pool = self.clone();
        let described = async move {
            let mut lent = pool.lend().await?;
            let described = within(pool.patience, lent.describe(sql)).await;
            lent.after(described)
        };
        described.boxed()
    }
}
