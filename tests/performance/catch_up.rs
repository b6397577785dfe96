//! Catching up, from the log and from Postgres, against plain clients that read the same.

use std::time::Instant;

use super::load::{bench, figure};
use super::resp::{Pipe, command};
use super::row::{Goal, Row, System};
use super::support::{eventually, millstream, unique};

const CLIENTS: usize = 100;
const MISSED: usize = 1_000;

pub(crate) async fn measure(system: &System) -> Vec<Row> {
    let prefix = unique("c");
    let args = format!("catch-up --clients {CLIENTS} --rooms {CLIENTS} --messages {MISSED} --prefix {prefix}");
    let addr = system.stack.addr("edge");
    let log = figure(&bench(&system.stack, addr, &args).await, "messages_per_second");
    let plain_log = xrange(system).await;
    eventually("everything is archived", async || {
        let count = "SELECT count(*) FROM messages";
        let rows: i64 = sqlx::query_scalar(count).fetch_one(&system.stack.database.pool).await.unwrap();
        (rows == (CLIENTS * MISSED) as i64).then_some(())
    })
    .await;
    // Cut to its end, so that only the archive has what was missed.
    millstream(&["trim", "--keep", "1", "--execute"], system.stack.env()).await.ok();
    let archive = figure(&bench(&system.stack, addr, &format!("{args} --keep")).await, "messages_per_second");
    let plain_archive = select(system, &prefix).await;
    vec![
        Row::new("catch-up, 100 clients × 1,000, from the log", "/s", log, Some(plain_log), Goal::AtLeast(0.5)),
        Row::new("the same from Postgres", "/s", archive, Some(plain_archive), Goal::AtLeast(0.5)),
    ]
}

/// Messages per second of clients that each read a stream of a thousand entries.
async fn xrange(system: &System) -> f64 {
    let redis = system.stack.redis();
    let mut filling = Pipe::connect(&redis.addr()).await;
    for client in 0..CLIENTS {
        let key = format!("yard:missed:{client}");
        let mut out = Vec::new();
        for n in 1..=MISSED {
            out.extend(command(&[b"XADD", key.as_bytes(), format!("1-{n}").as_bytes(), b"e", &[b'x'; 220]]));
        }
        filling.write(&out).await;
        for _ in 0..MISSED {
            filling.reply().await;
        }
    }
    let mut pipes = Vec::new();
    for _ in 0..CLIENTS {
        pipes.push(Pipe::connect(&redis.addr()).await);
    }
    let begin = Instant::now();
    let reading = pipes.into_iter().enumerate().map(|(client, mut pipe)| {
        tokio::spawn(async move {
            pipe.write(&command(&[b"XRANGE", format!("yard:missed:{client}").as_bytes(), b"-", b"+"])).await;
            assert_eq!(pipe.reply().await[0], i64::try_from(MISSED).unwrap());
        })
    });
    for read in reading.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    (CLIENTS * MISSED) as f64 / begin.elapsed().as_secs_f64()
}

/// Messages per second of clients that each select a room's rows.
async fn select(system: &System, prefix: &str) -> f64 {
    let begin = Instant::now();
    let reading = (0..CLIENTS).map(|client| {
        let (pool, room) = (system.stack.database.pool.clone(), format!("{prefix}{client}"));
        tokio::spawn(async move {
            let rows = sqlx::query("SELECT * FROM messages WHERE room = $1 ORDER BY seq").bind(room);
            assert_eq!(rows.fetch_all(&pool).await.unwrap().len(), MISSED);
        })
    });
    for read in reading.collect::<Vec<_>>() {
        read.await.unwrap();
    }
    (CLIENTS * MISSED) as f64 / begin.elapsed().as_secs_f64()
}
