//! What the log was made with: recorded once, compared at every start.

use std::time::SystemTime;

use super::Redis;
use crate::error::{Error, Kind, Result};
use crate::model::Partitions;

/// The form of keys and entries that this program writes.
const FORMAT: &str = "1";

/// What a log was made with, as it is recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// The form of keys and entries.
    pub format: String,
    /// Its partitions.
    pub partitions: String,
    /// Whether this program knows that form.
    pub is_known: bool,
}

impl Redis {
    /// What the log was made with; nothing if nobody has made one.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn meta(&self) -> Result<Option<Meta>> {
        let parts = self.command("HMGET", vec![self.keys().meta().as_str(), "format", "partitions"]).await?.list()?;
        let text = |at: usize| parts.get(at).map_or(Ok(None), |part| part.optional_text());
        let (Some(format), Some(partitions)) = (text(0)?, text(1)?) else { return Ok(None) };
        let is_known = format == FORMAT;
        Ok(Some(Meta { format: format.to_owned(), partitions: partitions.to_owned(), is_known }))
    }

    /// Records what the log is made with, if nobody has yet, and compares it with ours.
    ///
    /// With another number of partitions, rooms would be looked for where they are not.
    ///
    /// # Errors
    /// [`Kind::Config`] if the log was made otherwise; else as Redis answers.
    pub async fn check_meta(&self, partitions: Partitions) -> Result<()> {
        let key = self.keys().meta();
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let ours = [("format", FORMAT.to_owned()), ("partitions", partitions.count().to_string()), ("created_at", now)];
        for (field, value) in ours {
            self.command("HSETNX", vec![key.clone(), field.to_owned(), value]).await?;
        }
        let theirs = self.command("HMGET", vec![key.as_str(), "format", "partitions"]).await?.list()?;
        let text = |index: usize| theirs.get(index).map_or(Ok(""), |reply| reply.text());
        let (format, count) = (text(0)?, text(1)?);
        if format != FORMAT {
            let message = format!("use the log under {key}: it has format {format}, this program knows {FORMAT}");
            return Err(Error::new(Kind::Config, message));
        }
        if count != partitions.count().to_string() {
            let message = format!(
                "use the log under {key}: it was made with {count} partitions, and redis.partitions is {}; \
                 set redis.partitions = {count}, or another redis.prefix for a new log",
                partitions.count()
            );
            return Err(Error::new(Kind::Config, message));
        }
        Ok(())
    }
}
