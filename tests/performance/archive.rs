//! A backlog on its way from the log into Postgres, against `\copy` of the same rows into the same table by psql.

use std::process::Command;
use std::time::{Duration, Instant};

use super::load::{bench, rewritten};
use super::row::{Goal, Row, System};

const ROOMS: u64 = 100;
const OF_ROOM: u64 = 10_000;
/// All but `created_at`, which Postgres makes.
const COLUMNS: &str =
    "room, ms, n, seq, slot, user_id, device, cid, kind, body, sender_type, file_url, file_name, archived_at";

pub(crate) async fn measure(system: &mut System) -> Vec<Row> {
    system.stack.kill9("archive");
    let args = format!("catch-up --publish-only --rooms {ROOMS} --messages {OF_ROOM}");
    bench(&system.stack, system.stack.addr("edge"), &args).await;
    // Nobody else takes processor time from it.
    system.stack.kill9("edge");
    system.stack.kill9("replay");
    rewritten(system).await;
    system.stack.start_again("archive").await;
    let begin = Instant::now();
    settled(system).await;
    let ours = (ROOMS * OF_ROOM) as f64 / begin.elapsed().as_secs_f64();
    system.stack.kill9("archive");
    let theirs = copy(system).await;
    vec![Row::new("archive, backlog of 1,000,000", "rows/s", ours, Some(theirs), Goal::AtLeast(0.8))]
}

/// Waits until the archive has settled everything that is in the log.
pub(crate) async fn settled(system: &System) {
    let (mut rows, mut last) = (0, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let left = unsettled(system).await;
        if left == 0 {
            return;
        }
        if left != rows {
            (rows, last) = (left, Instant::now());
        }
        assert!(last.elapsed() < Duration::from_secs(60), "{left} entries, and no fewer");
    }
}

/// Entries that the archive's group has not acknowledged: behind its position, or pending.
async fn unsettled(system: &System) -> i64 {
    let redis = system.stack.redis();
    let mut left = 0;
    for p in 0..16 {
        let log = format!("{}:{{{p}}}:log", system.stack.prefix);
        let groups = redis.command(["XINFO", "GROUPS", &log]).await.list();
        for group in groups {
            let group = group.list();
            let field = |name: &str| group.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone());
            if field("name").unwrap().text() == "archive" {
                left += field("pending").unwrap().int()
                    + field("lag").map_or(1, |lag| match lag {
                        super::support::Reply::Nil => 1,
                        lag => lag.int(),
                    });
            }
        }
    }
    left
}

/// Rows per second of psql, the rows being in a file.
async fn copy(system: &System) -> f64 {
    let file = std::env::temp_dir().join(super::support::unique("rows"));
    let file = file.to_str().unwrap();
    let url = &system.stack.database.url;
    psql(url, &format!("\\copy (SELECT {COLUMNS} FROM messages) TO '{file}'"));
    psql(url, "TRUNCATE messages");
    let begin = Instant::now();
    let said = psql(url, &format!("\\copy messages ({COLUMNS}) FROM '{file}'"));
    let seconds = begin.elapsed().as_secs_f64();
    std::fs::remove_file(file).unwrap();
    let rows: f64 = said.trim().strip_prefix("COPY ").unwrap().parse().unwrap();
    assert_eq!(rows, (ROOMS * OF_ROOM) as f64);
    rows / seconds
}

fn psql(url: &str, command: &str) -> String {
    let out = Command::new("psql").args([url, "-X", "-v", "ON_ERROR_STOP=1", "-c", command]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}
