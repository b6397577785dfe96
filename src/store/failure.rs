//! What an error of Postgres or of the connection means. The only place that reads SQLSTATE.

use crate::error::{Error, Kind};
use crate::telemetry::names;

/// The error of Millstream for `error`, which happened while `doing`.
pub(super) fn failed(doing: &str, error: sqlx::Error) -> Error {
    let kind = match &error {
        sqlx::Error::Database(answer) => answer.code().map_or(Kind::PostgresRejected, |code| kind_of(&code)),
        sqlx::Error::Configuration(_) => Kind::Config,
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => Kind::PostgresUnavailable,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Kind::Corrupt,
        _ => Kind::PostgresRejected,
    };
    metrics::counter!(names::POSTGRES_ERRORS, "kind" => format!("{kind:?}")).increment(1);
    match &error {
        // The pool keeps to itself why nobody could be reached: most often one of these.
        sqlx::Error::PoolTimedOut => Error::new(kind, format!("{doing}: {NO_CONNECTION}")),
        _ => Error::new(kind, doing.to_owned()).caused_by(error),
    }
}

const NO_CONNECTION: &str =
    "no connection within database.connect_timeout: Postgres is silent, still starting, or has no connection left";

/// Whether Postgres refused the data, and could take others.
pub(super) fn is_of_the_data(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    code.is_some_and(|code| kind_of(&code) == Kind::PostgresData)
}

/// Whether Postgres refused a row because there is one with its key.
pub(super) fn is_duplicate(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// The kind of a SQLSTATE. Source: PostgreSQL 15, appendix A.
fn kind_of(code: &str) -> Kind {
    match code {
        // Read-only: a standby that is about to be promoted, or the wrong server of a pair.
        "25006" |
        // Lock not available in time, cancelled by statement_timeout, transaction idle for too long.
        "55P03" | "57014" | "25P03" |
        // Shut down by an administrator or a crash, or still starting.
        "57P01" | "57P02" | "57P03" | "57P05" => Kind::PostgresUnavailable,
        _ => match code.get(..2) {
            // Connection, transaction to be repeated, resources (disk, memory, connections), its own disk.
            Some("08" | "40" | "53" | "58") => Kind::PostgresUnavailable,
            // Out of range or of form, against a constraint, beyond a limit of Postgres (nested too deep).
            Some("22" | "23" | "54") => Kind::PostgresData,
            _ => Kind::PostgresRejected,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whether_to_wait_to_park_or_to_complain() {
        for waits in ["08006", "57P03", "53300", "57P01", "55P03", "40001", "40P01", "25006", "53100", "57014"] {
            assert_eq!(kind_of(waits), Kind::PostgresUnavailable, "{waits}");
        }
        for data in ["22021", "22P02", "22P05", "22003", "23505", "23514", "54000", "54001"] {
            assert_eq!(kind_of(data), Kind::PostgresData, "{data}");
        }
        for rejected in ["42P01", "42501", "28P01", "3D000", "XX000", ""] {
            assert_eq!(kind_of(rejected), Kind::PostgresRejected, "{rejected}");
        }
    }

    #[test]
    fn a_connection_that_fails_is_waited_for() {
        let lost = sqlx::Error::Io(std::io::Error::other("reset"));
        assert_eq!(failed("read a page", lost).kind(), Kind::PostgresUnavailable);
        assert_eq!(failed("read a page", sqlx::Error::PoolTimedOut).kind(), Kind::PostgresUnavailable);
    }
}
