//! Redis: there, new enough, durable, with room left, and holding the log that the settings mean.

use std::time::{SystemTime, UNIX_EPOCH};

use super::report::Finding;
use super::{Patient, nodes};
use crate::config::{Durability, mask_url};
use crate::error::{Kind, Result};
use crate::model::Partitions;
use crate::stream::{Info, Redis, Verified};

/// Commands that came with Redis 6.2.
const COMMANDS: [&str; 3] = ["XAUTOCLAIM", "GETEX", "ZRANGESTORE"];
/// From this part of `maxmemory` on, an operator should know.
const MEMORY_WARN_PERCENT: u64 = 80;
const MEMORY_FAIL_PERCENT: u64 = 95;
/// Clocks that differ by more than this are not kept by the same time service.
const CLOCK_MS_MAX: u64 = 5_000;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let place = mask_url(patient.settings.redis.url.expose());
    let redis = match &patient.redis {
        Ok(redis) => redis,
        Err(error) => {
            let fix = "start Redis there, or give its address as REDIS_URL or --set redis.url=…\n\
                       `millstream config print` shows what is used";
            let why = "nothing works without it: sends are refused, workers wait";
            return vec![
                Finding::fail("redis.reachable", format!("{place}: failed to {error}"), why, fix),
                Finding::skipped("redis", "the other checks of Redis need it"),
            ];
        }
    };
    let servers = redis.servers().await;
    let each = servers.iter().map(|(name, server)| {
        let place = if name.is_empty() { place.as_str() } else { name };
        async move { (name.clone(), server_by_itself(patient, place, name.is_empty(), server).await) }
    });
    let (each, cluster, durability, log) = tokio::join!(
        futures_util::future::join_all(each),
        patient.bounded("redis.cluster", nodes::check(redis, &servers, patient.partitions)),
        patient.bounded("redis.durability", durability(redis, patient.settings.redis.durability)),
        patient.bounded("redis.log", log(redis, patient.partitions)),
    );
    [nodes::fold(each), cluster, durability, log].into_iter().flatten().collect()
}

/// What each server has to tell, be it a node or the only one.
async fn server_by_itself(patient: &Patient, place: &str, is_only: bool, server: &Result<Redis>) -> Vec<Finding> {
    let redis = match server {
        Ok(redis) => redis,
        Err(error) => {
            let why = "its partitions are refused until a replica has taken over, or there is one replica less";
            return vec![Finding::fail("redis.reachable", format!("failed to {error}"), why, "start it")];
        }
    };
    let wanted = patient.settings.redis.durability;
    let (version, replicas, memory, disk, clock) = tokio::join!(
        patient.bounded("redis.version", version(redis, place)),
        patient.bounded("redis.replicas", replicas(redis, wanted, is_only)),
        patient.bounded("redis.memory", memory(redis)),
        patient.bounded("redis.persistence", persistence(redis)),
        patient.bounded("redis.clock", clock(redis)),
    );
    [version, replicas, memory, disk, clock].into_iter().flatten().collect()
}

async fn version(redis: &Redis, place: &str) -> Result<Vec<Finding>> {
    redis.ping().await?;
    let info = redis.info("server").await?;
    let name = match info.text("valkey_version") {
        Some(version) => format!("Valkey {version}"),
        None => format!("Redis {}", info.text("redis_version").unwrap_or("of unknown version")),
    };
    let reached = Finding::ok("redis.reachable", format!("{name} at {place}"));
    let missing = match redis.missing_commands(&COMMANDS).await {
        Ok(missing) => missing,
        // Where COMMAND is forbidden, what it calls itself has to do.
        Err(error) if error.kind() == Kind::RedisRejected && is_old(&info) => COMMANDS.to_vec(),
        Err(error) if error.kind() == Kind::RedisRejected => Vec::new(),
        Err(error) => return Err(error),
    };
    let known = match missing.as_slice() {
        [] => Finding::ok("redis.version", format!("{name} knows the commands that are needed")),
        missing => Finding::fail(
            "redis.version",
            format!("{name} doesn't know {}", missing.join(", ")),
            "workers can't take over what others left pending",
            "use Redis 6.2 or newer, or Valkey 7.2 or newer",
        ),
    };
    Ok(vec![reached, known])
}

fn is_old(info: &Info) -> bool {
    let mut numbers =
        info.text("redis_version").unwrap_or_default().split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default()) < (6, 2)
}

async fn durability(redis: &Redis, wanted: Durability) -> Result<Vec<Finding>> {
    const CHECK: &str = "redis.durability";
    let seen = redis.verify_durability(wanted).await?;
    let durability = match seen {
        Verified::Yes if wanted == Durability::Memory => Finding::warn(
            CHECK,
            "redis.durability is memory: whatever Redis does",
            "a message that was answered `sent` is lost if Redis dies before the archive has it",
            "set redis.durability = \"fsync\" (or replicated(n)) and Redis as it asks",
        ),
        Verified::Yes => Finding::ok(CHECK, format!("Redis keeps what {wanted} promises")),
        Verified::Unknown(why) => Finding::warn(
            CHECK,
            format!("can't be verified: {why}"),
            "edges start all the same, and nobody but you vouches for `sent`",
            format!("look in your provider's console whether Redis keeps what {wanted} promises"),
        ),
        Verified::No(mend) => Finding::fail(
            CHECK,
            format!("redis.durability is {wanted}, and Redis is set otherwise"),
            "a message that was answered `sent` may be lost, so edges and API refuse to start",
            format!("with redis-cli:\n{}\nCONFIG REWRITE", mend.join("\n")),
        ),
    };
    Ok(vec![durability])
}

async fn replicas(redis: &Redis, wanted: Durability, is_only: bool) -> Result<Vec<Finding>> {
    const CHECK: &str = "redis.replicas";
    let info = redis.info("replication").await?;
    if info.text("role") == Some("slave") {
        return Ok(vec![match info.text("master_link_status") {
            _ if is_only => {
                let fix = "give the address of the master in redis.url";
                Finding::fail(CHECK, "this Redis is a replica", "it takes no writes", fix)
            }
            Some("up") => Finding::ok(CHECK, "a replica that follows its master"),
            _ => Finding::warn(
                CHECK,
                "a replica that does not follow its master",
                "if it took over, what was accepted since would be lost",
                "look at its log; it follows by itself once it reaches its master",
            ),
        }]);
    }
    let connected = info.number("connected_slaves").unwrap_or_default();
    let told = format!("{connected} connected");
    Ok(vec![match wanted {
        Durability::Replicated(count) if connected < u64::from(count) => Finding::fail(
            CHECK,
            format!("{told}, replicated({count}) wants {count}"),
            "sends wait for replicas that aren't there, and are refused as unavailable",
            "connect the replicas (REPLICAOF), or ask for fewer in redis.durability",
        ),
        _ => Finding::ok(CHECK, told),
    }])
}

async fn memory(redis: &Redis) -> Result<Vec<Finding>> {
    let info = redis.info("memory").await?;
    let policy = info.text("maxmemory_policy").unwrap_or("unknown").to_owned();
    let eviction = match policy.as_str() {
        "noeviction" => Finding::ok("redis.eviction", "noeviction"),
        _ => Finding::fail(
            "redis.eviction",
            format!("maxmemory-policy is {policy}"),
            "when memory is short, Redis throws away entries that were accepted and are nowhere else",
            "with redis-cli:\nCONFIG SET maxmemory-policy noeviction\nCONFIG REWRITE",
        ),
    };
    let used = info.number("used_memory").unwrap_or_default();
    let max = info.number("maxmemory").unwrap_or_default();
    Ok(vec![eviction, room(used, max, info.number("total_system_memory").unwrap_or_default())])
}

fn room(used: u64, max: u64, machine: u64) -> Finding {
    const CHECK: &str = "redis.memory";
    const WHY: &str = "at maxmemory Redis refuses writes: sends are refused as unavailable";
    const FIX: &str = "raise maxmemory (CONFIG SET maxmemory …), shorten retention.min_age, or look for a group that \
                       holds the log back (`millstream groups`)";
    let mb = |bytes: u64| format!("{} MB", bytes >> 20);
    let Some(percent) = used.saturating_mul(100).checked_div(max) else {
        let share = used.saturating_mul(100).checked_div(machine).unwrap_or_default();
        let what = format!("{} used, no maxmemory", mb(used));
        return match share {
            0..MEMORY_WARN_PERCENT => Finding::ok(CHECK, what),
            _ => Finding::warn(
                CHECK,
                format!("{what}: {share} % of the machine's"),
                "the system ends Redis when memory runs out",
                "set maxmemory below what the machine has",
            ),
        };
    };
    let what = format!("{} of {} used ({percent} %)", mb(used), mb(max));
    match percent {
        0..MEMORY_WARN_PERCENT => Finding::ok(CHECK, what),
        MEMORY_WARN_PERCENT..MEMORY_FAIL_PERCENT => Finding::warn(CHECK, what, WHY, FIX),
        _ => Finding::fail(CHECK, what, WHY, FIX),
    }
}

async fn persistence(redis: &Redis) -> Result<Vec<Finding>> {
    const CHECK: &str = "redis.persistence";
    let info = redis.info("persistence").await?;
    if info.number("loading") == Some(1) {
        let fix = "wait until it has read its data";
        return Ok(vec![Finding::fail(CHECK, "Redis is loading its data", "it refuses commands meanwhile", fix)]);
    }
    if info.number("aof_enabled") != Some(1) {
        return Ok(vec![Finding::ok(CHECK, "no append-only file")]);
    }
    let failed = |name: &str| info.text(name).is_some_and(|status| status != "ok");
    let mut findings = Vec::new();
    if failed("aof_last_write_status") {
        findings.push(Finding::fail(
            CHECK,
            "the last write to the append-only file failed",
            "Redis refuses writes until one succeeds (MISCONF)",
            "look at its log and at the space of its disk",
        ));
    }
    if failed("aof_last_bgrewrite_status") {
        findings.push(Finding::warn(
            CHECK,
            "the last rewrite of the append-only file failed",
            "the file grows, and a restart reads all of it",
            "look at its log, the space of its disk and vm.overcommit_memory; then with redis-cli:\nBGREWRITEAOF",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "the append-only file is written"));
    }
    Ok(findings)
}

async fn log(redis: &Redis, partitions: Option<Partitions>) -> Result<Vec<Finding>> {
    let Some(partitions) = partitions else {
        return Ok(vec![Finding::skipped("redis.log", "redis.partitions can't be used")]);
    };
    let prefix = redis.keys().prefix();
    let count = partitions.count();
    let Some(meta) = redis.meta().await? else {
        return Ok(vec![Finding::warn(
            "redis.meta",
            format!("there is no log under {prefix:?} yet"),
            "nothing has run here, or redis.url or redis.prefix are not what the processes have",
            "start the processes, or run `millstream init`",
        )]);
    };
    if !meta.is_known {
        let what = format!("the log has format {:?}, which this program doesn't know", meta.format);
        let why = "every process refuses to start on it";
        return Ok(vec![Finding::fail("redis.meta", what, why, "use the version of Millstream that made it")]);
    }
    if meta.partitions != count.to_string() {
        return Ok(vec![Finding::fail(
            "redis.meta",
            format!("the log was made with {} partitions, redis.partitions is {count}", meta.partitions),
            "rooms would be looked for where they are not, so every process refuses to start",
            format!("set redis.partitions = {}, or another redis.prefix for a new log", meta.partitions),
        )]);
    }
    let mut without = Vec::new();
    for p in partitions.all() {
        if redis.epoch(p).await?.is_none() {
            without.push(p.to_string());
        }
    }
    let initialised = match without.len() {
        0 => Finding::ok("redis.partitions", format!("all {count} are initialised")),
        some => Finding::fail(
            "redis.partitions",
            format!("{some} of {count} are not initialised: {}", without.join(", ")),
            "sends to their rooms are refused as unavailable",
            "start an archive worker (millstream-archive): it prepares them, and needs Redis and Postgres for it",
        ),
    };
    Ok(vec![Finding::ok("redis.meta", format!("{prefix:?} has {count} partitions")), initialised])
}

async fn clock(redis: &Redis) -> Result<Vec<Finding>> {
    let before = now_ms();
    let theirs = redis.time_ms(&redis.keys().meta()).await?;
    Ok(vec![compare("redis.clock", "Redis", theirs, before, now_ms())])
}

/// Another machine's clock, read between two readings of ours.
pub(super) fn compare(check: &str, whose: &str, theirs: u64, before: u64, after: u64) -> Finding {
    let apart = before.saturating_sub(theirs).max(theirs.saturating_sub(after));
    if apart <= CLOCK_MS_MAX {
        return Finding::ok(check, format!("{whose} and this machine agree"));
    }
    let ahead = if theirs > after { "ahead of" } else { "behind" };
    Finding::warn(
        check,
        format!("{whose} is {:.1} s {ahead} this machine", apart as f64 / 1_000.0),
        "ids are times of Redis: ages, retention, months and the life of tokens are judged by clocks that differ",
        "keep all machines in step (chrony, systemd-timesyncd)",
    )
}

pub(super) fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::report::Status;
    use super::*;

    #[test]
    fn memory_near_its_end_is_told() {
        let status = |used, max| room(used, max, 1_000).status;
        assert_eq!((status(50, 100), status(80, 100), status(96, 100)), (Status::Ok, Status::Warn, Status::Fail));
        assert_eq!((status(500, 0), status(900, 0)), (Status::Ok, Status::Warn));
        assert_eq!(room(1, 0, 0).status, Status::Ok);
    }

    #[test]
    fn clocks_that_differ_are_told_with_the_direction() {
        let told = |theirs| compare("c", "Redis", theirs, 100_000, 100_200);
        assert_eq!(told(95_000).status, Status::Ok);
        assert_eq!(told(105_200).status, Status::Ok);
        assert!(told(90_000).what.contains("10.0 s behind"));
        assert!(told(110_200).what.contains("10.0 s ahead of"));
    }
}
