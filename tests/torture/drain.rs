//! After the last fault: until nothing is under way any more.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use millstream::model::{EntryId, Room};

use crate::supervisor::{PARTITIONS, System};
use crate::support::{Process, Reply};

/// How long each part may take: a breaker opens for a second at most, an edge that was killed is
/// missed after 15 s, and the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a fact is looked up again.
const POLL: Duration = Duration::from_millis(100);

/// The groups that read the log.
pub(crate) const GROUPS: [&str; 3] = ["archive", "callback:data", "callback:room-events"];

/// Waits until `fact` holds; what was waited for in vain otherwise.
pub(crate) async fn until(what: &str, mut fact: impl AsyncFnMut() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    while !fact().await {
        if begin.elapsed() > PATIENCE {
            return Err(format!("waited {PATIENCE:?} in vain until {what}"));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// The last entry of each of these rooms.
pub(crate) async fn heads(system: &System, rooms: &[Room]) -> BTreeMap<Room, EntryId> {
    let mut heads = BTreeMap::new();
    for p in 0..PARTITIONS {
        let all = system.redis.command(["HGETALL", &format!("{}:{{{p}}}:head", system.prefix)]).await.list();
        for pair in all.chunks(2) {
            let room = Room::new(&pair[0].text()).expect("a room");
            if rooms.contains(&room) {
                heads.insert(room, pair[1].text().parse().expect("an id"));
            }
        }
    }
    heads
}

/// Waits until all stays have ended: no more events come then.
pub(crate) async fn stays_are_over(system: &System) -> Result<(), String> {
    until("all stays have ended", async || {
        let mut left = 0;
        for p in 0..PARTITIONS {
            left += system.redis.command(["HLEN", &format!("{}:{{{p}}}:members", system.prefix)]).await.int();
            left += system.redis.command(["ZCARD", &format!("{}:{{{p}}}:leaving", system.prefix)]).await.int();
        }
        left == 0
    })
    .await
}

/// `millstream flush`: returns when what was accepted before it is in Postgres.
pub(crate) async fn flush(system: &System) -> Result<(), String> {
    let flush = Process::spawn("millstream", &["flush"], system.env());
    until("millstream flush has ended", async || flush.try_status().is_some()).await?;
    let status = flush.try_status().expect("it has ended");
    if status.success() { Ok(()) } else { Err(format!("millstream flush: {status}: {}", flush.stderr())) }
}

/// Waits until every group has settled everything.
pub(crate) async fn groups_are_done(system: &System) -> Result<(), String> {
    let mut behind = String::new();
    let waited = until("every group has settled everything", async || {
        behind.clear();
        for p in 0..PARTITIONS {
            for group in GROUPS {
                let left = left_to(system, group, p).await;
                if left > 0 {
                    behind.push_str(&format!(" {group} {{{p}}}: {left};"));
                }
            }
        }
        behind.is_empty()
    })
    .await;
    waited.map_err(|error| format!("{error}:{behind}"))
}

/// Entries of a partition that a group has not settled: pending ones and those it never had.
pub(crate) async fn left_to(system: &System, group: &str, p: u16) -> u64 {
    let log = format!("{}:{{{p}}}:log", system.prefix);
    let pending = match system.redis.command(["XPENDING", &log, group]).await {
        Reply::List(summary) => summary[0].int(),
        // No such log, no such group: it would have been made.
        _ => return u64::MAX,
    };
    let last = last_delivered(system, &log, group).await;
    let after = format!("({last}");
    let unread = system.redis.command(["XRANGE", &log, &after, "+", "COUNT", "1000"]).await.list().len();
    pending.unsigned_abs() + unread as u64
}

async fn last_delivered(system: &System, log: &str, group: &str) -> String {
    for info in system.redis.command(["XINFO", "GROUPS", log]).await.list() {
        let fields = info.list();
        let field = |name: &str| fields.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone());
        if field("name").is_some_and(|name| name.text() == group) {
            return field("last-delivered-id").map_or_else(|| "0-0".into(), |id| id.text());
        }
    }
    "0-0".into()
}
