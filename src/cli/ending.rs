//! How a command ends: exit codes, and errors that say what to do.

use std::process::ExitCode;

use crate::config::Mistakes;
use crate::error::{Error, Kind};

/// Exit code of a command that could not do what it was asked for.
const FAILED: u8 = 1;
/// Exit code for mistakes in arguments or settings, as clap has it too.
const MISTAKEN: u8 = 2;
/// Exit code of a comparison that could not look: it neither agrees nor differs.
const UNSEEN: u8 = 3;

/// Why a command ended without having done everything.
#[derive(Debug)]
pub(super) enum Ending {
    /// It failed; nobody has said so yet.
    Failed(Error),
    /// Settings are wrong; nobody has said so yet.
    Mistaken(Mistakes),
    /// It has said on its own what is wrong with the settings.
    MistakesTold,
    /// It has said on its own what is wrong with the system.
    FindingsTold,
    /// It was stopped before it was done, and has said how to go on.
    Stopped,
    /// It could not look, so nobody knows whether things differ; why is inside.
    Unseen(Box<Ending>),
    /// Whoever read its output has gone: nothing is wrong with that.
    Closed,
}

/// What every command returns.
pub(super) type Outcome<T = ()> = Result<T, Ending>;

impl From<Error> for Ending {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Mistakes> for Ending {
    fn from(mistakes: Mistakes) -> Self {
        Self::Mistaken(mistakes)
    }
}

impl Ending {
    /// Says what is still unsaid, on standard error, and gives the exit code.
    pub(super) fn report(self) -> ExitCode {
        ExitCode::from(self.tell())
    }

    fn tell(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Stopped | Self::FindingsTold => FAILED,
            Self::MistakesTold => MISTAKEN,
            Self::Unseen(why) => match why.tell() {
                FAILED => UNSEEN,
                other => other,
            },
            Self::Mistaken(mistakes) => {
                eprintln!("error: {mistakes}");
                MISTAKEN
            }
            Self::Failed(error) => {
                eprintln!("error: failed to {error}");
                if let Some(advice) = advice(error.kind()) {
                    eprintln!("  {advice}");
                }
                code(error.kind())
            }
        }
    }
}

fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Invalid | Kind::Config => MISTAKEN,
        _ => FAILED,
    }
}

/// What a person can do about it.
fn advice(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::RedisUnavailable => {
            "is Redis running there? Give its address as REDIS_URL or --set redis.url=…; \
             `millstream config print` shows what is used"
        }
        Kind::PostgresUnavailable => {
            "is Postgres running there? Give its address as DATABASE_URL or --set database.url=…; \
             `millstream config print` shows what is used"
        }
        Kind::PostgresRejected => "if the tables are missing, `millstream init` makes them",
        Kind::RedisRefused => "nothing was done; try again when Redis takes writes",
        Kind::RedisRejected => "may this user of Redis run that command, and does redis.prefix name our keys?",
        Kind::NotInitialised | Kind::NoGroup => {
            "start an archive worker (millstream-archive): it prepares the partitions"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_of_the_caller_end_with_2_and_everything_else_with_1() {
        assert_eq!(code(Kind::Invalid), 2);
        assert_eq!(code(Kind::Config), 2);
        assert_eq!(code(Kind::RedisUnavailable), 1);
        assert_eq!(code(Kind::Internal), 1);
    }

    #[test]
    fn a_comparison_that_could_not_look_is_no_difference() {
        assert_eq!(Ending::FindingsTold.tell(), 1);
        assert_eq!(Ending::Unseen(Box::new(Ending::Stopped)).tell(), 3);
        assert_eq!(Ending::Unseen(Box::new(Error::new(Kind::RedisUnavailable, "look").into())).tell(), 3);
        assert_eq!(Ending::Unseen(Box::new(Error::invalid("look").into())).tell(), 2);
    }

    #[test]
    fn an_error_that_a_person_can_mend_says_how() {
        for kind in [Kind::RedisUnavailable, Kind::PostgresUnavailable, Kind::NotInitialised, Kind::PostgresRejected] {
            assert!(advice(kind).is_some(), "{kind:?}");
        }
    }
}
