//! Numbers and times, alone and in pairs.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Checker;
use crate::config::{ArchiveSettings, CallbackSettings, EdgeSettings, GroupSettings, LimitSettings, Settings};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(366 * 86_400);
/// What something may take that somebody waits for.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(10)..=HOUR;

pub(super) fn check(settings: &Settings, checker: &mut Checker<'_>) {
    redis_and_database(settings, checker);
    edge(&settings.edge, &settings.limits, checker);
    limits(&settings.limits, checker);
    checker.range("api.connections", settings.api.connections, 1..=1_000_000);
    archive(&settings.archive, checker);
    retention(settings, checker);
    group(&settings.group, checker);
    replay(settings, checker);
    callback(&settings.callback, checker);
    checker.span("shutdown.grace", *settings.shutdown.grace, Duration::ZERO..=HOUR);
}

fn redis_and_database(settings: &Settings, checker: &mut Checker<'_>) {
    let (redis, database) = (&settings.redis, &settings.database);
    checker.range("redis.partitions", redis.partitions, 1..=4_096);
    checker.span("redis.command_timeout", *redis.command_timeout, WAIT);
    checker.span("redis.connect_timeout", *redis.connect_timeout, WAIT);
    // The archive writes with several connections while it asks with others.
    checker.range("database.connections_max", database.connections_max, 2..=1_000);
    checker.span("database.connect_timeout", *database.connect_timeout, WAIT);
    checker.span("database.statement_timeout", *database.statement_timeout, WAIT);
    if settings.edge.publish_retry < redis.command_timeout {
        let what = "is shorter than redis.command_timeout: an unanswered send is never tried again";
        checker.warn("edge.publish_retry", what);
    }
}

fn edge(edge: &EdgeSettings, limits: &LimitSettings, checker: &mut Checker<'_>) {
    checker.span("edge.cursor_interval", *edge.cursor_interval, WAIT);
    checker.span("edge.cursor_ttl", *edge.cursor_ttl, SECOND..=YEAR * 100);
    checker.span("edge.stall_timeout", *edge.stall_timeout, WAIT);
    checker.span("edge.hello_timeout", *edge.hello_timeout, WAIT);
    checker.span("edge.heartbeat", *edge.heartbeat, MS * 100..=HOUR);
    checker.span("edge.leave_debounce", *edge.leave_debounce, Duration::ZERO..=HOUR);
    checker.span("edge.publish_retry", *edge.publish_retry, Duration::ZERO..=HOUR);
    checker.span("edge.join_timeout", *edge.join_timeout, WAIT);
    checker.span("edge.reconnect_spread", *edge.reconnect_spread, Duration::ZERO..=HOUR);
    checker.range("edge.catch_up_entries", edge.catch_up_entries, 1..=1_000_000);
    if edge.outbox_bytes < limits.message_bytes {
        let what =
            format!("{} given, limits.message_bytes ({}) or more expected", edge.outbox_bytes, limits.message_bytes);
        checker.mistake("edge.outbox_bytes", what);
    }
    if edge.cursor_ttl < edge.cursor_interval {
        checker.warn("edge.cursor_ttl", "is shorter than edge.cursor_interval: cursors expire between two writes");
    }
}

fn limits(limits: &LimitSettings, checker: &mut Checker<'_>) {
    // 64 MiB: Redis keeps each entry in memory, and so does each edge that delivers it.
    checker.range("limits.message_bytes", limits.message_bytes, 1_024..=64 << 20);
    checker.range("limits.header_bytes", limits.header_bytes, 1_024..=1 << 20);
    checker.range("limits.rooms", limits.rooms, 1..=1_000_000);
    checker.range("limits.unacked_sends", limits.unacked_sends, 1..=100_000);
    checker.range("limits.body_bytes", limits.body_bytes, 1..=limits.message_bytes.max(1));
    for (rate, burst, key) in [
        (limits.sends_per_second, limits.send_burst, "limits.send_burst"),
        (limits.handshakes_per_second, limits.handshake_burst, "limits.handshake_burst"),
    ] {
        if rate > 0 && burst == 0 {
            checker.mistake(key, "0 given: with a rate, at least 1 must pass at once (a rate of 0 turns it off)");
        }
    }
}

fn archive(archive: &ArchiveSettings, checker: &mut Checker<'_>) {
    checker.range("archive.max_rows", archive.max_rows, 1..=100_000);
    checker.range("archive.bulk_rows", archive.bulk_rows, 1..=100_000);
    checker.range("archive.max_bytes", archive.max_bytes, 1_024..=1 << 30);
    checker.range("archive.writers", archive.writers, 1..=64);
    checker.span("archive.max_delay", *archive.max_delay, MS..=HOUR);
}

fn retention(settings: &Settings, checker: &mut Checker<'_>) {
    let retention = &settings.retention;
    checker.span("retention.min_age", *retention.min_age, Duration::ZERO..=YEAR * 100);
    checker.range("retention.max_entries", retention.max_entries, 1..=u64::MAX);
    checker.span("retention.interval", *retention.interval, MS * 100..=HOUR);
    if let Some(age) = retention.archive_max_age {
        checker.span("retention.archive_max_age", *age, HOUR * 24..=YEAR * 100);
        if *age < *retention.min_age {
            checker
                .warn("retention.archive_max_age", "is shorter than retention.min_age: the log outlives the archive");
        }
    }
}

fn group(group: &GroupSettings, checker: &mut Checker<'_>) {
    checker.span("group.lease_ttl", *group.lease_ttl, MS * 100..=HOUR);
    checker.span("group.lease_interval", *group.lease_interval, MS * 10..=HOUR);
    checker.range("group.read_entries", group.read_entries, 1..=100_000);
    checker.range("group.unsettled_entries", group.unsettled_entries, 1..=10_000_000);
    checker.range("group.max_deliveries", group.max_deliveries, 1..=1_000_000);
    checker.range("group.dead_entries", group.dead_entries, 1..=100_000_000);
    if *group.lease_ttl <= *group.lease_interval {
        let what =
            format!("{} given, more than group.lease_interval ({}) expected", group.lease_ttl, group.lease_interval);
        checker.mistake("group.lease_ttl", what);
    } else if *group.lease_ttl < *group.lease_interval * 3 {
        checker.warn("group.lease_ttl", "is under three times group.lease_interval: one slow renewal loses the lease");
    }
    if group.unsettled_entries < group.read_entries {
        checker.warn("group.unsettled_entries", "is lower than group.read_entries, which then has no effect");
    }
}

fn replay(settings: &Settings, checker: &mut Checker<'_>) {
    let replay = &settings.replay;
    checker.range("replay.page_entries", replay.page_entries, 1..=10_000);
    checker.range("replay.page_bytes", replay.page_bytes, settings.limits.body_bytes..=64 << 20);
    checker.range("replay.scan_entries", replay.scan_entries, 1..=10_000_000);
}

fn callback(callback: &CallbackSettings, checker: &mut Checker<'_>) {
    checker.range("callback.max_retries", callback.max_retries, 0..=10_000);
    checker.span("callback.retry_delay", *callback.retry_delay, MS..=HOUR * 24);
    checker.span("callback.retry_delay_max", *callback.retry_delay_max, MS..=HOUR * 24 * 7);
    checker.span("callback.timeout", *callback.timeout, MS * 10..=HOUR);
    if callback.retry_delay_max < callback.retry_delay {
        checker.warn("callback.retry_delay_max", "is shorter than callback.retry_delay: every wait has this length");
    }
    if callback.allow_private {
        checker.warn("callback.allow_private", "lets endpoints be on private addresses");
    }
}
