//! What Redis tells about itself, for operators.

use std::collections::HashMap;

use super::{Redis, Reply};
use crate::error::Result;

/// A section of `INFO`: names and values.
#[derive(Debug, Clone, Default)]
pub struct Info(HashMap<String, String>);

impl Info {
    fn read(text: &str) -> Self {
        let pairs = text.lines().filter_map(|line| line.trim_end().split_once(':'));
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// A value as it stands there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A value that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

impl Redis {
    /// A section of what the server says of itself.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn info(&self, section: &str) -> Result<Info> {
        Ok(Info::read(self.command("INFO", vec![section]).await?.text()?))
    }

    /// What a node of a cluster says of the cluster: `cluster_state` and others.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn cluster_info(&self) -> Result<Info> {
        Ok(Info::read(self.command("CLUSTER", vec!["INFO"]).await?.text()?))
    }

    /// The slots of a node of a cluster that are on their way from it or to it.
    ///
    /// # Errors
    /// As Redis answers.
    pub async fn moving_slots(&self) -> Result<Vec<String>> {
        Ok(moving_slots(self.command("CLUSTER", vec!["NODES"]).await?.text()?))
    }

    /// Which of these commands the server doesn't know.
    ///
    /// # Errors
    /// [`Kind::RedisRejected`](crate::error::Kind::RedisRejected) if it doesn't let us look; otherwise as Redis answers.
    pub async fn missing_commands<'a>(&self, names: &[&'a str]) -> Result<Vec<&'a str>> {
        let args = std::iter::once("INFO").chain(names.iter().copied()).collect();
        let known = self.command("COMMAND", args).await?.list()?;
        // One answer for each name: nothing, or an empty list, for what isn't known.
        let is_missing = |reply: &Reply| reply.is_nil() || matches!(reply, Reply::List(parts) if parts.is_empty());
        Ok(names.iter().zip(&known).filter(|(_, reply)| is_missing(reply)).map(|(name, _)| *name).collect())
    }
}

/// Of the node that tells: `[7->-id]` is a slot that leaves it, `[7-<-id]` one that comes.
fn moving_slots(nodes: &str) -> Vec<String> {
    let own = nodes.lines().find(|line| line.split(' ').nth(2).is_some_and(|flags| flags.contains("myself")));
    let parts = own.unwrap_or_default().split(' ').filter_map(|part| part.strip_prefix('['));
    parts.filter_map(|part| Some(part.split_once('-')?.0.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_on_their_way_are_read_from_the_own_line() {
        let nodes = "a1 127.0.0.1:1@2 master - 0 0 1 connected 0-5 [9->-b2]\n\
                     b2 127.0.0.1:3@4 myself,master - 0 0 2 connected 6-16383 [7->-a1] [8-<-a1]\n";
        assert_eq!(moving_slots(nodes), ["7", "8"]);
    }

    #[test]
    fn a_section_is_read_by_name() {
        let info = Info::read("# Memory\r\nused_memory:1024\r\nmaxmemory_policy:noeviction\r\n\r\n");
        assert_eq!((info.number("used_memory"), info.text("maxmemory_policy")), (Some(1_024), Some("noeviction")));
        assert_eq!(info.text("nothing"), None);
    }
}
