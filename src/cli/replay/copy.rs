//! Copies a range to a group's redeliver streams, a page at a time, with bounded backlog.

use std::time::Duration;

use indicatif::ProgressBar;

use super::super::output;
use super::source::Source;
use crate::backoff::Backoff;
use crate::error::{Error, Result};
use crate::model::EntryId;

/// Copies that may wait in one partition: what is replayed must not fill Redis.
const WAITING_MAX: u64 = 10_000;
/// How often it is looked whether there is room again.
const POLL: Duration = Duration::from_millis(100);
/// How long there is no room before a person is told.
const TELL_AFTER: Duration = Duration::from_secs(5);
/// Failures in a row before the job is left to be resumed: about a minute.
const FAILURES_MAX: u32 = 30;

/// The copying of one partition.
pub(super) struct Copying<'a> {
    pub(super) job: &'a str,
    pub(super) group: &'a str,
    pub(super) source: Source,
    pub(super) bar: &'a ProgressBar,
}

impl Copying<'_> {
    /// Copies what comes after `from` or after the job's position; says how many entries it copied.
    /// May be dropped at any await: the position tells where to go on.
    pub(super) async fn run(&self, from: EntryId) -> Result<u64> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));
        let mut copied = 0;
        loop {
            match self.step(from).await {
                Ok(Step { entries, ended }) => {
                    backoff.reset();
                    copied += entries;
                    self.bar.inc(entries);
                    if ended {
                        return Ok(copied);
                    }
                }
                Err(error) if error.is_retryable() && backoff.attempts() < FAILURES_MAX => {
                    if backoff.attempts() == 0 {
                        output::note(format!("could not go on, trying again: {error}"));
                    }
                    tokio::time::sleep(backoff.next()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(&self, from: EntryId) -> Result<Step> {
        let (p, redis) = (self.source.partition, &self.source.redis);
        let position = redis.replay_position(p, self.job).await?;
        let page = self.source.after(position.unwrap_or_else(|| from.previous())).await?;
        self.room_for_a_page().await?;
        let names = (self.job, self.group);
        if !redis.copy_replayed(p, names, position, page.upto, &page.entries).await? {
            // Whoever was faster goes on from there; so do we, and nothing is copied twice.
            return Ok(Step { entries: 0, ended: false });
        }
        if page.unreadable > 0 {
            output::note(format!("partition {p}: left out {} unreadable entries", page.unreadable));
        }
        Ok(Step { entries: page.entries.len() as u64, ended: page.ended })
    }

    async fn room_for_a_page(&self) -> Result<()> {
        let redeliver = self.source.redis.keys().redeliver(self.source.partition, self.group);
        let mut waited = Duration::ZERO;
        while self.source.redis.length(&redeliver).await? > WAITING_MAX {
            if waited == TELL_AFTER {
                let (p, group) = (self.source.partition, self.group);
                output::note(format!(
                    "partition {p}: {group} has {WAITING_MAX} copies to take; is a worker of it running?"
                ));
            }
            tokio::time::sleep(POLL).await;
            waited += POLL;
        }
        Ok(())
    }

    /// Waits until the group has taken all its copies.
    pub(super) async fn taken(&self) -> Result<()> {
        let redeliver = self.source.redis.keys().redeliver(self.source.partition, self.group);
        loop {
            match self.source.redis.length(&redeliver).await {
                Ok(0) => return Ok(()),
                Ok(_) => (),
                Err(error) if error.is_retryable() => (),
                Err(error) => return Err(error),
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

struct Step {
    entries: u64,
    ended: bool,
}

/// The error for a job that isn't there (any more).
pub(super) fn unknown_job(job: &str) -> Error {
    Error::invalid(format!("resume the replay job {job:?}: it is done, or a week old, or never was"))
}
