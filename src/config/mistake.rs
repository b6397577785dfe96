//! What is wrong with settings, all of it at once.

use std::fmt;

use super::Source;
use crate::error::{Error, Kind};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The key, the variable or the file.
    pub subject: String,
    /// Where it was given.
    pub source: Source,
    /// What is wrong with it. Holds no secret.
    pub what: String,
    /// What was probably meant.
    pub nearest: Option<String>,
}

/// Everything that is wrong: the process can't start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

/// Something that works and is probably not what was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The key or the variable.
    pub subject: String,
    /// What may surprise.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.subject)?;
        if self.source.tells_more_than(&self.subject) {
            write!(f, " ({})", self.source)?;
        }
        write!(f, ": {}", self.what)?;
        match &self.nearest {
            Some(nearest) => write!(f, "; did you mean {nearest}?"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => one.fmt(f),
            many => {
                write!(f, "{} mistakes in the settings", many.len())?;
                many.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
            }
        }
    }
}

impl std::error::Error for Mistakes {}

impl From<Mistakes> for Error {
    fn from(mistakes: Mistakes) -> Self {
        Self::new(Kind::Config, "read the settings").caused_by(mistakes)
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.what)
    }
}

/// Gathers mistakes and warnings while settings are read and checked.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) mistakes: Vec<Mistake>,
    pub(super) warnings: Vec<Warning>,
}

impl Findings {
    pub(super) fn mistake(&mut self, subject: impl Into<String>, source: Source, what: impl Into<String>) {
        self.mistakes.push(Mistake { subject: subject.into(), source, what: what.into(), nearest: None });
    }

    pub(super) fn unknown(&mut self, subject: impl Into<String>, source: Source, nearest: Option<String>) {
        let what = "there is no such key".to_owned();
        self.mistakes.push(Mistake { subject: subject.into(), source, what, nearest });
    }

    pub(super) fn warn(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.warnings.push(Warning { subject: subject.into(), what: what.into() });
    }
}
