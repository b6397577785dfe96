//! Whether the process can serve, and if not, what keeps it from serving.
//!
//! **Invariant:** a process is ready only if every part's last round trip succeeded within the last
//! [`FRESH`]. A part that stops reporting stops being ready: nobody has to notice its death.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::names;

/// How long the success of a check counts (design, section 5: "within the last 2 s").
pub const FRESH: Duration = Duration::from_secs(2);
/// How often a check should run so that one slow round trip doesn't make the process unready.
pub const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// The parts of a process with what they last said. Cheap to clone; all clones are one registry.
///
/// ```
/// use millstream::telemetry::Readiness;
/// let readiness = Readiness::default();
/// let redis = readiness.check("redis");
/// assert!(!readiness.report().ready);
/// redis.ok();
/// assert!(readiness.report().ready);
/// redis.failed("no answer to PING");
/// assert_eq!(readiness.report().failures(), "redis: no answer to PING");
/// ```
#[derive(Clone, Default)]
pub struct Readiness {
    parts: Arc<Mutex<BTreeMap<&'static str, State>>>,
}

#[derive(Debug, Clone)]
struct State {
    /// A latch's success counts until it is withdrawn; a check's only for [`FRESH`].
    latch: bool,
    said: Said,
}

#[derive(Debug, Clone)]
enum Said {
    Nothing,
    Ok(Instant),
    Failed(String),
}

/// One part's way to say how it is. Clones speak for the same part.
#[derive(Clone)]
pub struct Part {
    name: &'static str,
    readiness: Readiness,
}

/// What the parts last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all of them are ready, and there is at least one.
    pub ready: bool,
    /// Each part.
    pub parts: BTreeMap<&'static str, PartReport>,
}

/// What one part last said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// Whether it is ready.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Readiness {
    /// Registers a part whose round trips are repeated: each success counts for [`FRESH`].
    /// It is not ready until it says so.
    #[must_use]
    pub fn check(&self, name: &'static str) -> Part {
        self.register(name, false)
    }

    /// Registers a part that is reached once, such as a bound listener: its success counts until
    /// it is withdrawn. It is not ready until it says so.
    #[must_use]
    pub fn latch(&self, name: &'static str) -> Part {
        self.register(name, true)
    }

    /// What the parts last said.
    pub fn report(&self) -> Report {
        let parts: BTreeMap<_, _> = self.parts().iter().map(|(name, state)| (*name, state.report())).collect();
        for (name, part) in &parts {
            metrics::gauge!(names::READY, "part" => *name).set(if part.ready { 1.0 } else { 0.0 });
        }
        Report { ready: !parts.is_empty() && parts.values().all(|part| part.ready), parts }
    }

    /// Waits until every part is ready. May be dropped at any time.
    pub async fn ready(&self) {
        self.ready_but(&[]).await;
    }

    /// Waits until every part is ready, whatever these say. May be dropped at any time.
    pub async fn ready_but(&self, others: &[&str]) {
        // Checks come in by the half second; who waits for all of them needs no finer clock.
        const POLL: Duration = Duration::from_millis(20);
        while !self.is_ready_but(others) {
            tokio::time::sleep(POLL).await;
        }
    }

    fn is_ready_but(&self, others: &[&str]) -> bool {
        let parts = self.report().parts;
        let mut counted = parts.iter().filter(|(name, _)| !others.contains(*name)).peekable();
        counted.peek().is_some() && counted.all(|(_, part)| part.ready)
    }

    fn register(&self, name: &'static str, latch: bool) -> Part {
        self.parts().insert(name, State { latch, said: Said::Nothing });
        Part { name, readiness: self.clone() }
    }

    fn parts(&self) -> MutexGuard<'_, BTreeMap<&'static str, State>> {
        // Nothing panics while holding it, and a half-written state can't arise.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    /// The last round trip succeeded, now.
    pub fn ok(&self) {
        self.say(Said::Ok(Instant::now()));
    }

    /// The last round trip failed: `why` is for the operator, without secrets.
    pub fn failed(&self, why: impl fmt::Display) {
        self.say(Said::Failed(why.to_string()));
    }

    /// [`Part::ok`] or [`Part::failed`], as the result says.
    pub fn report<T, E: fmt::Display>(&self, result: &Result<T, E>) {
        match result {
            Ok(_) => self.ok(),
            Err(error) => self.failed(error),
        }
    }

    fn say(&self, said: Said) {
        if let Some(state) = self.readiness.parts().get_mut(self.name) {
            state.said = said;
        }
    }
}

impl State {
    fn report(&self) -> PartReport {
        let why = match &self.said {
            Said::Nothing => Some("not yet".to_owned()),
            Said::Failed(why) => Some(why.clone()),
            Said::Ok(at) if self.latch || at.elapsed() <= FRESH => None,
            Said::Ok(at) => Some(format!("last succeeded {:.1} s ago", at.elapsed().as_secs_f64())),
        };
        PartReport { ready: why.is_none(), why }
    }
}

impl Report {
    /// What keeps the process from serving, in one line; empty if nothing does.
    pub fn failures(&self) -> String {
        let failures = self.parts.iter().filter_map(|(name, part)| Some(format!("{name}: {}", part.why.as_ref()?)));
        failures.collect::<Vec<_>>().join("; ")
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_parts_is_not_ready() {
        assert!(!Readiness::default().report().ready);
    }

    #[test]
    fn one_failed_part_makes_the_process_unready_and_is_named() {
        let readiness = Readiness::default();
        let (redis, listener) = (readiness.check("redis"), readiness.latch("listener"));
        redis.ok();
        assert_eq!(readiness.report().failures(), "listener: not yet");
        listener.ok();
        assert!(readiness.report().ready);
        redis.report(&Err::<(), _>("no answer"));
        assert_eq!(readiness.report().failures(), "redis: no answer");
    }

    #[test]
    fn success_grows_old_for_checks_and_not_for_latches() {
        let old = Instant::now().checked_sub(FRESH + Duration::from_secs(1)).unwrap();
        let check = State { latch: false, said: Said::Ok(old) };
        assert_eq!(check.report().why.unwrap(), "last succeeded 3.0 s ago");
        assert!(State { latch: true, said: Said::Ok(old) }.report().ready);
    }
}
