//! What is sent to one edge: notes in its inbox.

use super::call::{Call, slot_of};
use super::failure::failed;
use super::{Arg, Redis, Reply, Script};
use crate::error::{Error, Result};
use crate::model::EdgeNote;

static SEND: Script = Script::new("send a note to an edge", include_str!("lua/send_to_edge.lua"));

/// Notes that an inbox holds at most. An edge deletes what it has read, so only one that is stuck
/// comes near; what it loses it asks for again.
const NOTES_MAX: u64 = 2_000;
/// How long an inbox lives after its last note: an edge that is gone must leave nothing behind.
const LIFE_SECS: u64 = 60;

impl Redis {
    /// Puts a note into an edge's inbox, whether that edge is alive or not.
    ///
    /// # Errors
    /// As Redis answers. Notes are idempotent: sending one twice is harmless.
    pub async fn send_to_edge(&self, edge: &str, note: &EdgeNote) -> Result<()> {
        let encoded = rmp_serde::to_vec(note).map_err(|e| Error::internal("encode a note").caused_by(e))?;
        let args = vec![Arg::from(encoded), Arg::from(NOTES_MAX), Arg::from(LIFE_SECS)];
        SEND.run(self, vec![self.keys().inbox(edge)], args).await.map(|_| ())
    }

    /// The time by Redis' clock, in milliseconds: the clock of ids. In a cluster that of the node which
    /// has `key`.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn time_ms(&self, key: &str) -> Result<u64> {
        let mut call = Call::new("TIME", Vec::<String>::new())?;
        call.beside = Some(slot_of(key.as_bytes()));
        let answer = self.send(call).await.map_err(|e| failed("read the clock of Redis", e))?;
        let parts = Reply::from_fred(answer.value).list()?;
        let part = |index: usize| parts.get(index).map_or(Ok(0), Reply::int);
        let (secs, micros) = (part(0)?, part(1)?);
        Ok(u64::try_from(secs * 1_000 + micros / 1_000).unwrap_or_default())
    }
}
