//! One error type: what kind, whose side, whether trying again can help.
//!
//! Callers ask [`Error::is_retryable`], [`Error::is_unclear`] or compare [`Error::kind`]; nobody
//! matches on text. Messages are lower-case fragments that fit "failed to …" and name the input.
//!
//! ```
//! use millstream::error::{Error, Kind};
//! let error = Error::new(Kind::RedisUnavailable, "read mill:{3}:log").caused_by(std::io::Error::other("reset"));
//! assert!(error.is_retryable());
//! assert_eq!(error.to_string(), "read mill:{3}:log: reset");
//! ```

use std::fmt;

/// What every fallible function of the crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as a caller can act on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A client, a caller or an operator gave something that is outside the rules.
    Invalid,
    /// A setting is wrong; the process can't start with it.
    Config,
    /// Stored bytes that can't be read: a damaged envelope, a reply of the wrong form.
    Corrupt,
    /// The partition has no epoch: the archive worker has not initialised it yet.
    NotInitialised,
    /// The room is closed.
    RoomClosed,
    /// Redis could not be reached or did not answer: whether the command ran is **unclear**.
    RedisUnavailable,
    /// Redis answered, and refused for now (`OOM`, `READONLY`, `LOADING`, `MISCONF` …): nothing was done.
    RedisRefused,
    /// Redis answered that the consumer group, or its stream, does not exist.
    NoGroup,
    /// Redis answered with an error that waiting will not mend (`WRONGTYPE`, `NOPERM` …).
    RedisRejected,
    /// Postgres could not be reached, is busy or starting: whether the statement ran is unclear.
    PostgresUnavailable,
    /// Postgres refused the data of a row (SQLSTATE classes 22, 23 and 54).
    PostgresData,
    /// Postgres refused for another reason (permission, missing table …).
    PostgresRejected,
    /// Another worker owns the partition now.
    Fenced,
    /// An HTTP endpoint did not accept a callback.
    Endpoint,
    /// The process is stopping.
    Stopping,
    /// A defect of ours.
    Internal,
}

/// Whose side an [`Error`] comes from: who has to act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Whoever called.
    Client,
    /// The operator's settings.
    Operator,
    /// Redis.
    Redis,
    /// Postgres.
    Postgres,
    /// An HTTP endpoint.
    Endpoint,
    /// Ourselves.
    Ours,
}

/// An error of Millstream: a [`Kind`], a sentence, and perhaps what caused it.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync + 'static>>,
}

impl Error {
    /// An error of `kind`; `message` is a lower-case fragment that names the input.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A defect of ours: something that the code believes can't happen.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// An input outside the rules.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// The same error with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync + 'static>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error, with what was being done before its message.
    #[must_use]
    pub fn context(mut self, doing: &str) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whose side it comes from.
    pub fn side(&self) -> Side {
        match self.kind {
            Kind::Invalid | Kind::RoomClosed => Side::Client,
            Kind::Config => Side::Operator,
            Kind::RedisUnavailable | Kind::RedisRefused | Kind::RedisRejected | Kind::NoGroup => Side::Redis,
            Kind::PostgresUnavailable | Kind::PostgresData | Kind::PostgresRejected => Side::Postgres,
            Kind::Endpoint => Side::Endpoint,
            Kind::NotInitialised | Kind::Corrupt | Kind::Fenced | Kind::Stopping | Kind::Internal => Side::Ours,
        }
    }

    /// Whether the same call may succeed later without anybody changing it.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            Kind::NotInitialised
                | Kind::RedisUnavailable
                | Kind::RedisRefused
                | Kind::PostgresUnavailable
                | Kind::Endpoint
                | Kind::Stopping
        )
    }

    /// Whether the effect may have happened all the same: no answer is no "no".
    pub fn is_unclear(&self) -> bool {
        matches!(self.kind, Kind::RedisUnavailable | Kind::PostgresUnavailable)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.kind)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
