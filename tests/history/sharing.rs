//! What reading costs: shared scans, bounded pages, budgets.

use millstream::history::History;
use millstream::model::{Answer, Ask, Cursor, Resume, Room, Since};

use super::support::{Redis, Reply};
use super::world::{P, World, short};

/// Calls of a command that Redis has counted.
async fn calls(redis: &Redis, command: &str) -> u64 {
    let Reply::Bytes(stats) = redis.command(["INFO", "commandstats"]).await else { panic!("no statistics") };
    let stats = String::from_utf8(stats).unwrap();
    let line = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

async fn counted(redis: &Redis, history: &History, asks: &[(Room, Ask)]) -> (Vec<Answer>, u64, u64) {
    let before = (calls(redis, "evalsha").await + calls(redis, "eval").await, calls(redis, "xrange").await);
    let answers = history.answer(P, asks).await.unwrap();
    let after = (calls(redis, "evalsha").await + calls(redis, "eval").await, calls(redis, "xrange").await);
    (answers, after.0 - before.0, after.1 - before.1)
}

/// A storm of reconnects costs calls per partition, not per request.
#[tokio::test]
async fn requests_that_wait_together_share_their_scan() {
    let redis = Redis::start(&["--appendfsync", "no"]).await;
    let world = World::with_redis(&redis.url()).await;
    let mut cursors: Vec<(Room, Cursor)> = Vec::new();
    for n in 0..300 {
        let room = format!("room{n}");
        world.event(&room, "room_created").await;
        cursors.push((Room::new(&room).unwrap(), world.messages(&room, 2).await));
    }
    let history = world.history();
    let joins = |cursors: &[(Room, Cursor)]| -> Vec<(Room, Ask)> {
        cursors.iter().map(|(room, at)| (room.clone(), Ask::Join(Since::Cursor(*at)))).collect()
    };
    let _warm = history.answer(P, &joins(&cursors)).await.unwrap();

    let (answers, scripts, ranges) = counted(&redis, &history, &joins(&cursors)).await;
    assert!(answers.iter().all(|a| matches!(a, Answer::Joined { resume: Resume::Resumed, page, .. } if !page.more)));
    assert_eq!((scripts, ranges), (1, 0), "everybody is at the end of their room");

    for (room, _) in &cursors {
        world.messages(room, 1).await;
    }
    let (answers, scripts, ranges) = counted(&redis, &history, &joins(&cursors)).await;
    let missed = |a: &Answer| matches!(a, Answer::Joined { page, .. } if short(&page.entries) == ["m3"]);
    assert!(answers.iter().all(missed));
    assert_eq!(scripts, 1);
    assert!(ranges <= 6, "{ranges} reads for 900 entries");

    let asks: Vec<(Room, Ask)> = cursors.iter().map(|(room, _)| (room.clone(), Ask::Join(Since::Last(1)))).collect();
    let before = calls(&redis, "xrevrange").await;
    let answers = history.answer(P, &asks).await.unwrap();
    assert!(answers.iter().all(missed));
    assert!(calls(&redis, "xrevrange").await - before <= 4);
}

/// The requests of a storm don't come all at once: the later ones find what was read for the first.
#[tokio::test]
async fn requests_right_after_each_other_share_what_was_read() {
    let redis = Redis::start(&["--appendfsync", "no"]).await;
    let world = World::with_redis(&redis.url()).await;
    let (a, b) = (world.messages("a", 1).await, world.messages("b", 1).await);
    world.messages("a", 5).await;
    world.messages("b", 5).await;
    let history = world.history();
    let join = |room: &str, at| [(Room::new(room).unwrap(), Ask::Join(Since::Cursor(at)))];
    let _warm = history.answer(P, &join("a", world.messages("a", 1).await)).await.unwrap();
    let (_, _, ranges) = counted(&redis, &history, &join("a", a)).await;
    assert_eq!(ranges, 2, "the log, and where it begins");
    let (answers, _, ranges) = counted(&redis, &history, &join("b", b)).await;
    let all = |a: &Answer| matches!(a, Answer::Joined { page, .. } if page.entries.len() == 5 && !page.more);
    assert!(answers.iter().all(all));
    assert_eq!(ranges, 1, "where it begins");
    // What came meanwhile isn't missed for it.
    world.messages("b", 1).await;
    let answers = history.answer(P, &join("b", b)).await.unwrap();
    assert!(matches!(&answers[0], Answer::Joined { page, .. } if page.entries.len() == 6 && !page.more));
}

/// What reads the log logs in and chooses its database by itself.
#[tokio::test]
async fn the_log_is_read_with_the_password_and_the_database_of_the_url() {
    let redis = Redis::start(&["--appendfsync", "no", "--databases", "4"]).await;
    redis.command(["ACL", "SETUSER", "reader", "on", ">secret", "~*", "&*", "+@all"]).await;
    redis.command(["CONFIG", "SET", "requirepass", "hidden"]).await;
    for login in ["reader:secret", ":hidden"] {
        let world = World::with_redis(&format!("redis://{login}@{}/3", redis.addr())).await;
        let begin = world.messages("a", 1).await;
        world.messages("a", 4).await;
        assert_eq!(world.join("a", Since::Cursor(begin)).await.page.entries.len(), 4);
        assert_eq!(world.join("a", Since::Last(2)).await.page.entries.len(), 2);
    }
}

/// From its start on, a long room that the log holds whole is not read row by row from the archive.
#[tokio::test]
async fn a_room_that_is_younger_than_the_log_is_read_from_it() {
    let world = World::new().await;
    world.messages("b", 1).await;
    world.event("a", "room_created").await;
    world.messages("a", 300).await;
    world.archive_all().await;
    // If it were read from the archive all the same, it would be found there no more.
    sqlx::query("DELETE FROM messages WHERE seq > 1").execute(&world.pool).await.unwrap();
    for since in [Since::Start, Since::Cursor(Cursor::START)] {
        let joined = world.join("a", since).await;
        assert_eq!((joined.resume, joined.since, joined.page.entries.len()), (Resume::Fresh, Cursor::START, 301));
    }
}

#[tokio::test]
async fn pages_are_bounded_in_entries_and_bytes() {
    let mut world = World::new().await;
    let body = format!("\"{}\"", "x".repeat(10_000));
    let last = world.messages_of("a", 25, &body, "*").await;
    (world.settings.page_entries, world.settings.page_bytes) = (10, 45_000);
    let page = world.join("a", Since::Start).await.page;
    assert_eq!((page.entries.len(), page.more), (4, true));
    world.settings.page_bytes = 1;
    assert_eq!(world.join("a", Since::Last(3)).await.page.entries.len(), 1, "one entry always fits");
    world.settings.page_bytes = 1 << 20;
    assert_eq!(world.join("a", Since::Start).await.page.entries.len(), 10);
    world.settings.page_bytes = 45_000;
    assert_eq!(world.read_on("a", Since::Start).await.len(), 25);
    world.archive_all().await;
    world.trim_upto(last.id).await;
    assert_eq!(world.read_on("a", Since::Start).await.len(), 25);
    match world.ask("a", Ask::History { before: None, after: None, limit: 20 }).await {
        Answer::History { entries, more, .. } => assert_eq!((short(&entries), more), (short(&entries[..4]), true)),
        other => panic!("{other:?}"),
    }
}

/// A busy partition, a quiet room, and no archive to ask: each page costs its budget and leads on.
#[tokio::test]
async fn out_of_budget_a_page_says_how_far_it_came() {
    let mut world = World::with_own_postgres().await;
    let begin = world.messages("a", 1).await;
    world.messages("b", 3_000).await;
    let two = world.messages("a", 1).await;
    world.messages("b", 3_000).await;
    let three = world.messages("a", 1).await;
    world.stop_postgres();
    world.settings.scan_entries = 1_000;
    let (reset, page) = world.page("a", begin).await;
    assert_eq!((reset, page.entries.len(), page.more), (None, 0, true));
    assert!(page.upto.id > begin.id && page.upto.id < two.id && page.upto.seq == 1);
    // A join is answered only when its cursor is proved.
    let joined = world.join("a", Since::Cursor(begin)).await;
    assert_eq!((joined.resume, joined.page.entries[0].cursor()), (Resume::Resumed, two));
    let read = world.read_on("a", Since::Cursor(begin)).await;
    assert_eq!(read.last().unwrap().cursor(), three);
}

/// A room that was quiet for long is read from the archive, not by reading everybody's entries.
#[tokio::test]
async fn a_long_absence_is_read_from_the_archive() {
    let redis = Redis::start(&["--appendfsync", "no"]).await;
    let mut world = World::with_redis(&redis.url()).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let begin = u64::try_from(now.as_millis()).unwrap() - 3_600_000;
    let at = |minute: u64| format!("{}-*", begin + minute * 60_000);
    let one = world.messages_of("a", 1, "1", &at(0)).await;
    for minute in 1..50 {
        world.messages_of("b", 100, "1", &at(minute)).await;
    }
    world.messages_of("a", 2, "1", &at(50)).await;
    world.archive_all().await;
    world.messages_of("b", 100, "1", &at(51)).await;
    world.messages_of("a", 1, "1", &at(52)).await;
    world.settings.scan_entries = 1_000;
    let history = world.history();
    let asks = [(Room::new("a").unwrap(), Ask::Join(Since::Cursor(one)))];
    let _warm = history.answer(P, &[(Room::new("a").unwrap(), Ask::Join(Since::Now))]).await.unwrap();
    let (answers, scripts, ranges) = counted(&redis, &history, &asks).await;
    match &answers[0] {
        Answer::Joined { resume, page, .. } => {
            assert_eq!((*resume, page.more), (Resume::Resumed, false));
            assert_eq!(short(&page.entries), ["m2", "m3", "m4"]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!((scripts, ranges), (1, 2), "the log after the checkpoint, and where it begins");
}

/// Everything is found while the log is being trimmed under the reader.
#[tokio::test]
async fn trimming_makes_no_hole() {
    let mut world = World::new().await;
    (world.settings.page_entries, world.settings.scan_entries) = (7, 50);
    for _ in 0..40 {
        world.messages("a", 5).await;
        world.messages("b", 20).await;
    }
    world.archive_all().await;
    let ids: Vec<_> = world.log().await.iter().map(|entry| entry.id).collect();
    let trimming = async {
        for id in ids.iter().step_by(8) {
            world.trim_upto(*id).await;
            tokio::task::yield_now().await;
        }
    };
    let reading = async {
        for _ in 0..5 {
            assert_eq!(world.read_on("a", Since::Start).await.len(), 200);
            assert_eq!(world.read_on("a", Since::Last(120)).await.len(), 120);
        }
    };
    tokio::join!(trimming, reading);
}
