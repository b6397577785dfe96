//! What the words of Redis, and the errors of a connection, mean.

use fred::types::config::Server;

use crate::error::{Error, Kind};
use crate::telemetry::names;

/// What an error of Redis or of the connection means. The only place that reads Redis' words.
/// Source: the error table of `redis.io/docs` per command, and Redis' `shared` error strings.
pub(super) fn failed(doing: &str, error: fred::error::Error) -> Error {
    use fred::error::ErrorKind;
    let details = error.details();
    let kind = match details.split([' ', ':']).next().unwrap_or_default() {
        "NOGROUP" => Kind::NoGroup,
        "NOTINIT" => Kind::NotInitialised,
        // fred breaks the connection off at it and gives it to every command under way: executed or not.
        "CLUSTERDOWN" => Kind::RedisUnavailable,
        "OOM" | "READONLY" | "LOADING" | "MISCONF" | "NOREPLICAS" | "BUSY" | "TRYAGAIN" | "MASTERDOWN" | "MOVED"
        | "ASK" | "NOSCRIPT" | "UNBLOCKED" => Kind::RedisRefused,
        "WRONGTYPE" | "NOPERM" | "NOAUTH" | "WRONGPASS" | "ERR" | "BUSYGROUP" => Kind::RedisRejected,
        _ => match error.kind() {
            ErrorKind::IO
            | ErrorKind::Timeout
            | ErrorKind::Canceled
            | ErrorKind::Backpressure
            | ErrorKind::Cluster
            | ErrorKind::Routing
            | ErrorKind::Protocol
            | ErrorKind::Unknown => Kind::RedisUnavailable,
            ErrorKind::Url | ErrorKind::Config | ErrorKind::Tls => Kind::Config,
            _ => Kind::RedisRejected,
        },
    };
    metrics::counter!(names::REDIS_ERRORS, "kind" => format!("{kind:?}")).increment(1);
    Error::new(kind, doing.to_owned()).caused_by(error)
}

/// Where a call belongs that did nothing where it was sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// The slot is there from now on.
    Moved(u16, Server),
    /// The slot is on its way, and the key is there already.
    Ask(Server),
    /// Some keys of the call are here, some there.
    Later,
}

/// Reads the directions of a cluster's node, `told_by` being its address.
pub(super) fn elsewhere(error: &fred::error::Error, told_by: &Server) -> Option<Elsewhere> {
    let mut words = error.details().split(' ');
    let kind = words.next()?;
    if kind == "TRYAGAIN" {
        return Some(Elsewhere::Later);
    }
    if kind != "MOVED" && kind != "ASK" {
        return None;
    }
    let slot = words.next()?.parse().ok()?;
    let (host, port) = words.next()?.rsplit_once(':')?;
    let host = if host.is_empty() { told_by.host.to_string() } else { host.to_owned() };
    let to = Server::new(host, port.parse().ok()?);
    Some(if kind == "ASK" { Elsewhere::Ask(to) } else { Elsewhere::Moved(slot, to) })
}

/// Whether another node may have taken over from the one that this comes from.
pub(super) fn is_doubtful(error: &fred::error::Error) -> bool {
    let word = error.details().split([' ', ':']).next().unwrap_or_default();
    let is_answer = word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
    !is_answer || ["CLUSTERDOWN", "READONLY", "LOADING", "MASTERDOWN", "MOVED", "ASK"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &str) -> fred::error::Error {
        fred::error::Error::new(fred::error::ErrorKind::Unknown, words.to_owned())
    }

    #[test]
    fn directions_are_read() {
        let here = Server::new("10.0.0.1", 7000);
        let read = |words: &str| elsewhere(&error(words), &here);
        assert_eq!(read("MOVED 3999 10.0.0.2:7001"), Some(Elsewhere::Moved(3_999, Server::new("10.0.0.2", 7001))));
        assert_eq!(read("ASK 1 :7002"), Some(Elsewhere::Ask(Server::new("10.0.0.1", 7002))));
        assert_eq!(read("MOVED 1 2001:db8::1:7001"), Some(Elsewhere::Moved(1, Server::new("2001:db8::1", 7001))));
        assert_eq!(read("TRYAGAIN Multiple keys request during rehashing of slot"), Some(Elsewhere::Later));
        assert_eq!(read("OOM command not allowed"), None);
    }

    #[test]
    fn what_a_lost_connection_is_told_for_all_says_nothing_of_one() {
        // fred ends the connection at a CLUSTERDOWN, and gives this error to all that were under way.
        assert!(failed("x", error("CLUSTERDOWN The cluster is down")).is_unclear());
        assert!(!failed("x", error("TRYAGAIN Multiple keys")).is_unclear());
        assert!(is_doubtful(&error("CLUSTERDOWN The cluster is down")) && is_doubtful(&error("Request timed out.")));
        assert!(!is_doubtful(&error("NOGROUP No such key")));
    }
}
