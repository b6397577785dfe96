//! The log alone, as an edge reads it: the same answers or none.

use std::time::Duration;

use millstream::history::History;
use millstream::model::{Answer, Ask, Cursor, EntryId, Room, Since};

use super::support::{Proxy, Redis, wait_until};
use super::world::{P, World, short};

/// What the log alone says to each; where it says something, log and archive together say the same.
async fn alone(world: &World, asks: &[Ask]) -> Vec<Answer> {
    let asks: Vec<(Room, Ask)> = asks.iter().map(|ask| (Room::new("a").unwrap(), ask.clone())).collect();
    let answers = History::of_log(world.redis.clone(), &world.settings).answer(P, &asks).await.unwrap();
    let full = world.history().answer(P, &asks).await.unwrap();
    for ((answer, full), ask) in answers.iter().zip(full).zip(&asks) {
        assert!(*answer == Answer::Unavailable || *answer == full, "{ask:?}: {answer:?}\ninstead of {full:?}");
    }
    answers
}

fn unanswered(answers: &[Answer]) -> usize {
    answers.iter().filter(|answer| **answer == Answer::Unavailable).count()
}

#[tokio::test]
async fn the_log_alone_says_the_same_or_nothing() {
    let world = World::new().await;
    world.event("a", "room_created").await;
    let mut cursors = Vec::new();
    for _ in 0..5 {
        cursors.push(world.messages("a", 60).await);
        world.event("a", "user_joined").await;
        world.messages("b", 7).await;
    }
    let asks: Vec<Ask> = [Since::Start, Since::Now, Since::Last(20), Since::Seq(100), Since::Cursor(Cursor::START)]
        .into_iter()
        .chain(cursors.iter().map(|at| Since::Cursor(*at)))
        // Another history's, and one that is to come.
        .chain([Since::Cursor(Cursor::new(cursors[1].id, 7)), Since::Cursor(Cursor::new(EntryId::MAX, 1_000))])
        .map(Ask::Join)
        .chain(cursors.iter().map(|at| Ask::Page(*at)))
        .collect();
    assert_eq!(unanswered(&alone(&world, &asks).await), 0, "the log has all of it");
    world.archive_all().await;
    assert_eq!(unanswered(&alone(&world, &asks).await), 0);

    world.trim_upto(cursors[2].id.previous()).await;
    let answers = alone(&world, &asks).await;
    // The start twice, a message that is gone, two cursors that are gone and their pages, and the false one.
    assert_eq!(unanswered(&answers), 8);
}

/// A room whose first entry is not in the log may have others before it, whatever the numbers say.
#[tokio::test]
async fn a_room_that_begins_before_the_log_is_not_read_from_its_start() {
    let world = World::new().await;
    let created = world.event("a", "room_created").await;
    world.event("a", "user_joined").await;
    world.messages("a", 300).await;
    let start = [Ask::Join(Since::Start)];
    assert_eq!(unanswered(&alone(&world, &start).await), 0);
    world.archive_all().await;
    world.trim_upto(created.id).await;
    assert_eq!(unanswered(&alone(&world, &start).await), 1);
}

/// Reading a whole partition for one who was away for long is not the edge's to do.
#[tokio::test]
async fn what_is_far_back_is_left_to_the_archive() {
    let mut world = World::new().await;
    let at = |minute: u64| format!("{}-*", 1_000_000 + minute * 60_000);
    let begin = world.messages_of("a", 1, "1", &at(0)).await;
    for minute in 1..10 {
        world.messages_of("b", 30, "1", &at(minute)).await;
    }
    let near = world.messages_of("a", 1, "1", &at(10)).await;
    world.messages_of("a", 2, "1", &at(11)).await;
    world.settings.scan_entries = 100;
    world.archive_all().await;
    let asks = [Ask::Join(Since::Cursor(begin)), Ask::Join(Since::Cursor(near)), Ask::Page(begin)];
    let answers = alone(&world, &asks).await;
    assert_eq!((unanswered(&answers), &answers[0], &answers[2]), (2, &Answer::Unavailable, &Answer::Unavailable));
}

/// What was read on is answered from memory; once the log is another one, from what that holds.
#[tokio::test]
async fn a_kept_tail_spares_redis_the_reading_and_is_not_believed_of_another_log() {
    let redis = Redis::start(&["--appendfsync", "no"]).await;
    let world = World::with_redis(&redis.url()).await;
    let begin = world.messages("a", 1).await;
    world.messages("a", 20).await;
    let key = world.redis.keys().log(P);
    let read = world.redis.range(&key, begin.id.next(), EntryId::MAX, 100).await.unwrap();
    let keep = |epoch: &str, entries: usize| world.redis.keep_tail(P, epoch, begin.id, &read[..entries], 1 << 20);
    keep("1", 20);
    let history = History::of_log(world.redis.clone(), &world.settings);
    let ask = [(Room::new("a").unwrap(), Ask::Page(begin))];
    let entries = async || match history.answer(P, &ask).await.unwrap().remove(0) {
        Answer::Page { reset: None, page } => page.entries,
        other => panic!("{other:?}"),
    };
    // Out of Redis' sight: who reads it there finds a hole.
    world.delete(read[9].id).await;
    assert_eq!(entries().await.len(), 20);

    // Its last entry was lost, and somebody has gone on.
    world.delete(read[19].id).await;
    world.messages("a", 1).await;
    assert_eq!(entries().await.len(), 9);
    assert_eq!(short(&entries().await)[8], "m10");

    keep("1", 19);
    assert_eq!(entries().await.len(), 19);
    world.redis.command("SET", vec![world.redis.keys().epoch(P), "2".into()]).await.unwrap();
    assert_eq!(entries().await.len(), 9, "another epoch");

    keep("2", 19);
    assert_eq!(entries().await.len(), 19);
    world.redis.forget_tails();
    assert_eq!(entries().await.len(), 9, "another server, perhaps");
}

/// The library connects again by itself, so a read may succeed on another server than the one before it.
#[tokio::test]
async fn a_reader_hears_that_its_connection_broke_between_two_reads() {
    let redis = Redis::start(&["--appendfsync", "no"]).await;
    let proxy = Proxy::start(redis.addr()).await;
    let world = World::with_redis(&format!("redis://{}", proxy.addr())).await;
    world.messages("a", 1).await;
    let log = [(world.redis.keys().log(P), EntryId::ZERO)];
    let block = Duration::from_millis(100);
    let mut reader = world.redis.reader(block).await.unwrap();
    let mut read = async || {
        let came = reader.read(&log, 10, block).await.is_ok_and(|streams| !streams.is_empty());
        (came, reader.has_broken())
    };
    while read().await != (true, false) {}
    let connections = proxy.connections();
    proxy.cut();
    wait_until("all are connected again", async || proxy.connections() >= 2 * connections).await;
    assert_eq!(read().await, (true, true));
    assert_eq!(read().await, (true, false), "it is heard once");
}
