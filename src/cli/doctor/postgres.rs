//! Postgres: there, new enough, writable, with the tables of this version and connections left.

use super::Patient;
use super::redis::{compare, now_ms};
use super::report::Finding;
use crate::config::{DatabaseSettings, mask_url};
use crate::error::Result;
use crate::store::{Server, Store};

/// The oldest version that is tested.
const VERSION_MIN: u32 = 140_000;

pub(super) async fn check(patient: &Patient) -> Vec<Finding> {
    let settings = &patient.settings.database;
    let place = mask_url(settings.url.expose());
    let unreachable = |error: &str| {
        let why = "nothing is archived, and what the log holds no more can't be served; the log keeps the backlog";
        let fix = "start Postgres there, or give its address as DATABASE_URL or --set database.url=…\n\
                   `millstream config print` shows what is used";
        vec![
            Finding::fail("postgres.reachable", format!("{place}: failed to {error}"), why, fix),
            Finding::skipped("postgres", "the other checks of Postgres need it"),
        ]
    };
    let store = match &patient.store {
        Ok(store) => store,
        Err(error) => return unreachable(error),
    };
    let before = now_ms();
    let timed_out = || Err(crate::Error::internal(format!("get an answer within {:?}", patient.timeout)));
    let server = match tokio::time::timeout(patient.timeout, store.server()).await.unwrap_or_else(|_| timed_out()) {
        Ok(server) => server,
        Err(error) => return unreachable(&error.to_string()),
    };
    let mut findings = vec![
        Finding::ok("postgres.reachable", format!("PostgreSQL {} at {place}", server.version_text)),
        version(&server),
        writable(&server),
        connections(&server, settings),
        compare("postgres.clock", "Postgres", server.now_ms, before, now_ms()),
    ];
    findings.extend(commit(&server));
    findings.extend(patient.bounded("postgres.tables", tables(store, settings)).await);
    findings
}

fn version(server: &Server) -> Finding {
    if server.version >= VERSION_MIN {
        return Finding::ok("postgres.version", &server.version_text);
    }
    let why = "versions before 14 are not tested, and attaching months locks more";
    Finding::fail("postgres.version", &server.version_text, why, "use PostgreSQL 14 or newer")
}

fn writable(server: &Server) -> Finding {
    const CHECK: &str = "postgres.writable";
    const WHY: &str = "nothing can be archived; the log keeps the backlog until Redis' memory is full";
    if server.in_recovery {
        return Finding::fail(CHECK, "it is a standby", WHY, "give the address of the primary in database.url");
    }
    if server.read_only {
        let fix = "as its administrator:\nALTER DATABASE … RESET default_transaction_read_only\n\
                   and look whether the server, the role or the URL sets it as well";
        return Finding::fail(CHECK, "transactions are read-only", WHY, fix);
    }
    Finding::ok(CHECK, "it takes writes")
}

fn commit(server: &Server) -> Vec<Finding> {
    const CHECK: &str = "postgres.durability";
    let mut findings = Vec::new();
    if server.fsync == "off" {
        findings.push(Finding::warn(
            CHECK,
            "fsync is off",
            "a crash of its machine can damage the whole database, not only its last rows",
            "set fsync = on in postgresql.conf and restart it",
        ));
    }
    if server.synchronous_commit == "off" {
        findings.push(Finding::warn(
            CHECK,
            "synchronous_commit is off",
            "a crash can take back the last rows together with their checkpoint. The worker that takes the partition \
             over notices, and writes them again from the log, if the log still holds them",
            "as its administrator:\nALTER DATABASE … SET synchronous_commit = on",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("synchronous_commit is {}", server.synchronous_commit)));
    }
    findings
}

fn connections(server: &Server, settings: &DatabaseSettings) -> Finding {
    const CHECK: &str = "postgres.connections";
    let left = server.connections_max.saturating_sub(server.connections);
    let what = format!("{} of {} in use", server.connections, server.connections_max);
    if left >= settings.connections_max {
        return Finding::ok(CHECK, what);
    }
    Finding::warn(
        CHECK,
        format!("{what}, one more process may want {}", settings.connections_max),
        "a process that gets none waits, and is not ready",
        "raise max_connections, or lower database.connections_max of the archive, replay and API processes",
    )
}

async fn tables(store: &Store, settings: &DatabaseSettings) -> Result<Vec<Finding>> {
    const CHECK: &str = "postgres.migrations";
    let tables = store.tables_state().await?;
    if !tables.unknown.is_empty() {
        let unknown: Vec<String> = tables.unknown.iter().map(|version| format!("{version:04}")).collect();
        let what = format!("the tables are of a version to come: {}", unknown.join(", "));
        let fix = "use the version of Millstream that made them, or a newer one";
        return Ok(vec![Finding::warn(CHECK, what, "this program may not know what they are like", fix)]);
    }
    if !tables.pending.is_empty() {
        let what = format!("not applied: {}", tables.pending.join(", "));
        let fix = match settings.migrate {
            true => "start an archive worker, or run `millstream init`",
            false => "run `millstream init` with an account that may change tables (database.migrate is off)",
        };
        return Ok(vec![Finding::fail(CHECK, what, "archive workers wait until the tables are there", fix)]);
    }
    let missing = store.months_missing().await?;
    let months = match missing.as_slice() {
        [] => Finding::ok("postgres.months", "made ahead of need"),
        missing => Finding::warn(
            "postgres.months",
            format!("not made: {}", missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            "rows of these months go to the default partition, from where they can't be dropped by month",
            "start an archive worker, or run `millstream init`",
        ),
    };
    Ok(vec![Finding::ok(CHECK, "all are applied"), months])
}
