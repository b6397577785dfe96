//! The faults that there are, how each is made and how it is mended.

use std::fmt;
use std::time::Duration;

use crate::endpoint::Mood;
use crate::supervisor::{Hop, PARTITIONS, System};
use crate::support::Mode;

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    /// Something happens to a proxy of a hop (the n-th), or to all of them.
    Hop(Hop, Option<usize>, Mode),
    /// Every connection of a hop is reset once.
    Cut(Hop),
    /// `kill -9`, and a new start when it is over.
    Kill(&'static str),
    /// SIGTERM, and a new start when it is over.
    Terminate(&'static str),
    /// SIGSTOP, then SIGCONT.
    Freeze(&'static str),
    RedisKill,
    RedisFreeze,
    /// `CLIENT KILL`: all connections.
    RedisDisconnect,
    /// `CLIENT PAUSE`: no command is answered for this long.
    RedisPause(Duration),
    RedisForgetScripts,
    RedisRewrite,
    /// `XGROUP DESTROY`, in every partition.
    RedisForgetGroup(&'static str),
    /// No fsync ends, if the disk of Redis is one that can hang.
    RedisDiskHangs,
    /// Nothing, for so many milliseconds: what comes after it in a step comes later.
    Wait(u64),
    /// SIGQUIT, and a new start when it is over.
    PostgresKill,
    PostgresFreeze,
    /// `pg_terminate_backend`: all connections.
    PostgresDisconnect,
    /// An endpoint (the n-th) answers badly.
    Endpoint(usize, Mood),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hop(hop, None, mode) => write!(f, "{hop:?} {mode:?}"),
            Self::Hop(hop, Some(n), mode) => write!(f, "{hop:?}-{} {mode:?}", n + 1),
            other => write!(f, "{other:?}"),
        }
    }
}

impl Fault {
    /// Makes it.
    pub(crate) async fn begin(&self, system: &System) {
        match *self {
            Self::Hop(hop, which, mode) => set(system, hop, which, mode),
            Self::Cut(hop) => system.proxies_of(hop).for_each(crate::support::Proxy::cut),
            Self::Kill(process) => system.kill9(process),
            Self::Terminate(process) => system.terminate(process).await,
            Self::Freeze(process) => system.signal(process, "STOP"),
            Self::RedisKill => system.redis.kill9(),
            Self::RedisFreeze => system.redis.freeze(),
            Self::RedisDisconnect => ask_redis(system, &["CLIENT", "KILL", "TYPE", "normal"]).await,
            Self::RedisPause(time) => {
                ask_redis(system, &["CLIENT", "PAUSE", &time.as_millis().to_string(), "ALL"]).await;
            }
            Self::RedisForgetScripts => ask_redis(system, &["SCRIPT", "FLUSH"]).await,
            Self::RedisRewrite => ask_redis(system, &["BGREWRITEAOF"]).await,
            Self::RedisForgetGroup(group) => {
                for p in 0..PARTITIONS {
                    let log = format!("{}:{{{p}}}:log", system.prefix);
                    ask_redis(system, &["XGROUP", "DESTROY", &log, group]).await;
                }
            }
            Self::RedisDiskHangs => std::fs::write(&system.hanging, "").expect("the folder is ours"),
            Self::Wait(ms) => tokio::time::sleep(Duration::from_millis(ms)).await,
            Self::PostgresKill => system.postgres.kill(),
            Self::PostgresFreeze => system.postgres.freeze(),
            Self::PostgresDisconnect => {
                let all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                           WHERE datname = current_database() AND pid <> pg_backend_pid()";
                let asked =
                    tokio::time::timeout(Duration::from_secs(2), sqlx::query(all).execute(&system.database.pool));
                // Postgres may be away by another fault.
                let _ = asked.await;
            }
            Self::Endpoint(n, mood) => system.endpoints[n].1.set(mood),
        }
    }

    /// Mends it.
    pub(crate) async fn end(&self, system: &System) {
        match *self {
            Self::Hop(hop, which, _) => set(system, hop, which, Mode::Pass),
            Self::Kill(process) | Self::Terminate(process) => system.start_again(process),
            Self::Freeze(process) => system.signal(process, "CONT"),
            Self::RedisKill => system.redis.start_again().await,
            Self::RedisFreeze => system.redis.thaw(),
            Self::RedisDiskHangs => std::fs::remove_file(&system.hanging).expect("it was made"),
            Self::PostgresKill => system.postgres.start_again().await,
            Self::PostgresFreeze => system.postgres.thaw(),
            Self::Endpoint(n, _) => system.endpoints[n].1.set(Mood::Fine),
            Self::Cut(_)
            | Self::RedisDisconnect
            | Self::RedisPause(_)
            | Self::RedisForgetScripts
            | Self::RedisRewrite
            | Self::RedisForgetGroup(_)
            | Self::Wait(_)
            | Self::PostgresDisconnect => {}
        }
    }

    /// What it happens to: two faults of one thing don't go together.
    pub(crate) fn subject(&self) -> String {
        match self {
            Self::Hop(hop, _, _) | Self::Cut(hop) => format!("{hop:?}"),
            Self::Kill(process) | Self::Terminate(process) | Self::Freeze(process) => (*process).to_owned(),
            Self::Endpoint(n, _) => format!("endpoint {n}"),
            Self::RedisKill
            | Self::RedisFreeze
            | Self::RedisDisconnect
            | Self::RedisPause(_)
            | Self::RedisForgetScripts
            | Self::RedisRewrite
            | Self::RedisForgetGroup(_)
            | Self::RedisDiskHangs => "redis".into(),
            Self::Wait(_) => "nothing".into(),
            Self::PostgresKill | Self::PostgresFreeze | Self::PostgresDisconnect => "postgres".into(),
        }
    }
}

fn set(system: &System, hop: Hop, which: Option<usize>, mode: Mode) {
    for (n, proxy) in system.proxies_of(hop).enumerate() {
        if which.is_none_or(|which| which == n) {
            proxy.set(mode);
        }
    }
}

async fn ask_redis(system: &System, command: &[&str]) {
    // Redis may be away by another fault.
    let asked = tokio::time::timeout(Duration::from_secs(2), system.redis.try_command(command));
    let _ = asked.await;
}
