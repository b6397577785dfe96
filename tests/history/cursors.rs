//! Cursors that can't be honoured, and answers that can't be given.

use millstream::model::{Answer, Ask, Cursor, EntryId, ResetReason, Resume, Since};

use super::support::wait_until;
use super::world::{World, short};

fn reset(reason: ResetReason) -> (Resume, Option<ResetReason>) {
    (Resume::Reset, Some(reason))
}

#[tokio::test]
async fn a_room_that_never_was_knows_no_cursor() {
    let world = World::new().await;
    let other = world.messages("b", 1).await;
    for since in [Since::Start, Since::Now, Since::Last(5), Since::Seq(0), Since::Cursor(Cursor::START)] {
        let joined = world.join("a", since).await;
        assert_eq!((joined.resume, joined.since, joined.head), (Resume::Fresh, Cursor::START, Cursor::START));
        assert_eq!((joined.page.more, joined.page.upto), (false, Cursor::new(other.id, 0)), "{since:?}");
    }
    let joined = world.join("a", Since::Cursor(other)).await;
    assert_eq!((joined.resume, joined.reason), reset(ResetReason::UnknownCursor));
    // An edge that has followed the empty room up to the end of the log goes on from there.
    assert_eq!(world.page("a", Cursor::new(other.id, 0)).await.0, None);
    assert_eq!(world.page("a", other).await.0, Some((ResetReason::UnknownCursor, Cursor::START)));
}

#[tokio::test]
async fn a_cursor_from_the_future_is_of_another_history() {
    let world = World::new().await;
    let third = world.messages("a", 3).await;
    let head = world.messages("a", 2).await;
    for (since, at) in [
        (Since::Cursor(Cursor::new(head.id.next(), 5)), head),
        (Since::Cursor(Cursor::new(head.id, 6)), head),
        (Since::Seq(6), head),
        (Since::Cursor(Cursor::new(third.id, 9)), third),
        (Since::Cursor(Cursor::new(third.id, 2)), third),
    ] {
        let joined = world.join("a", since).await;
        assert_eq!((joined.resume, joined.reason), reset(ResetReason::Forked), "{since:?}");
        assert_eq!(joined.since, at, "{since:?}");
        assert_eq!(joined.page.entries.len() as u64, 5 - at.seq, "{since:?}");
    }
}

/// An edge goes on after the end of its last page, which is the end of the log and not of the room.
#[tokio::test]
async fn the_end_of_a_page_is_a_cursor() {
    let world = World::new().await;
    let head = world.messages("a", 2).await;
    let last = world.messages("b", 3).await;
    let upto = world.join("a", Since::Start).await.page.upto;
    assert_eq!(upto, Cursor::new(last.id, 2));
    let (reset, page) = world.page("a", upto).await;
    assert_eq!((reset, page.entries.len(), page.more), (None, 0, false));
    world.messages("a", 1).await;
    let (reset, page) = world.page("a", upto).await;
    assert_eq!((reset, short(&page.entries)), (None, vec!["m3".to_owned()]));
    // The same place in a log that never came so far.
    let (reset, _) = world.page("a", Cursor::new(EntryId::new(upto.id.ms + 60_000, 0), 3)).await;
    assert_eq!(reset.map(|(reason, _)| reason), Some(ResetReason::Forked));
    assert!(head.id < upto.id);
}

/// Redis lost everything, the archive had all but the last two messages: who has seen those two must
/// hear that history is another one now.
#[tokio::test]
async fn a_log_restored_without_its_tail_is_forked() {
    let world = World::new().await;
    let archived = world.messages("a", 5).await;
    world.archive_all().await;
    let lost = world.messages("a", 2).await;
    world.wipe_and_restore().await;
    // Nothing new yet: the archive's end is the room's end.
    let joined = world.join("a", Since::Cursor(archived)).await;
    assert_eq!((joined.resume, joined.page.entries.len()), (Resume::Resumed, 0));
    let joined = world.join("a", Since::Cursor(lost)).await;
    assert_eq!((joined.resume, joined.reason), reset(ResetReason::Forked));
    assert_eq!(joined.since, archived);
    // The numbers are given anew: the same number, another message, and not under an id that was given before.
    wait_until("Redis' clock has passed what was lost", async || {
        let time = world.redis.command("TIME", Vec::<&str>::new()).await.unwrap().list().unwrap();
        let (seconds, micros) = (time[0].int().unwrap(), time[1].int().unwrap());
        u64::try_from(seconds * 1_000 + micros / 1_000).unwrap() > lost.id.ms
    })
    .await;
    world.messages("a", 3).await;
    let joined = world.join("a", Since::Cursor(lost)).await;
    assert_eq!((joined.resume, joined.reason), reset(ResetReason::Forked));
    assert_eq!(joined.since, Cursor::new(lost.id, 5));
    assert_eq!(short(&joined.page.entries), ["m6", "m7", "m8"]);
    let joined = world.join("a", Since::Cursor(archived)).await;
    assert_eq!(
        (joined.resume, short(&joined.page.entries)),
        (Resume::Resumed, vec!["m6".into(), "m7".into(), "m8".into()])
    );
    assert_eq!(world.read_on("a", Since::Start).await.len(), 8);
}

/// A hole is no part of a page: the page ends before it, and the next one is a reset.
#[tokio::test]
async fn a_hole_is_announced_and_passed() {
    let world = World::new().await;
    world.messages("a", 2).await;
    let lost = world.messages("a", 1).await;
    world.messages("a", 2).await;
    world.delete(lost.id).await;
    let joined = world.join("a", Since::Start).await;
    assert_eq!((short(&joined.page.entries), joined.page.more), (vec!["m1".into(), "m2".into()], true));
    let (reset, page) = world.page("a", joined.page.upto).await;
    assert_eq!(reset, Some((ResetReason::Forked, Cursor::new(joined.page.upto.id, 3))));
    assert_eq!((short(&page.entries), page.more), (vec!["m4".into(), "m5".into()], false));
    for (since, resume) in
        [(Since::Seq(2), Resume::Reset), (Since::Seq(3), Resume::Fresh), (Since::Last(3), Resume::Fresh)]
    {
        let joined = world.join("a", since).await;
        assert_eq!((joined.resume, joined.since.seq), (resume, 3), "{since:?}");
        assert_eq!(short(&joined.page.entries), ["m4", "m5"], "{since:?}");
    }
}

/// The last message counts in the room's number and is gone.
#[tokio::test]
async fn a_lost_end_is_announced() {
    let world = World::new().await;
    let held = world.messages("a", 2).await;
    let lost = world.messages("a", 1).await;
    world.delete(lost.id).await;
    let joined = world.join("a", Since::Start).await;
    assert_eq!((short(&joined.page.entries), joined.page.more), (vec!["m1".into(), "m2".into()], true));
    let (reset, page) = world.page("a", joined.page.upto).await;
    assert_eq!(reset.map(|(_, from)| from.seq), Some(3));
    assert_eq!((page.entries.len(), page.more, page.upto.seq), (0, false, 3));
    assert_eq!(world.join("a", Since::Cursor(held)).await.resume, Resume::Reset);
}

/// A forced trim destroyed what was not archived.
#[tokio::test]
async fn what_was_destroyed_before_it_was_archived_is_trimmed() {
    let world = World::new().await;
    let first = world.messages("a", 1).await;
    let destroyed = world.messages("a", 3).await;
    let head = world.messages("a", 2).await;
    world.trim_upto(destroyed.id).await;
    let joined = world.join("a", Since::Cursor(first)).await;
    assert_eq!((joined.resume, joined.reason), reset(ResetReason::Trimmed));
    assert_eq!((joined.since.seq, short(&joined.page.entries)), (4, vec!["m5".into(), "m6".into()]));
    let joined = world.join("a", Since::Start).await;
    assert_eq!((joined.resume, joined.since.seq, joined.head), (Resume::Fresh, 4, head));
    match world.ask("a", Ask::History { before: None, after: None, limit: 1 }).await {
        Answer::History { entries, more, floor, .. } => {
            assert_eq!((short(&entries), more, floor), (vec!["m6".to_owned()], true, 5));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn nothing_is_said_about_a_partition_that_is_not_initialised() {
    let world = World::new().await;
    world.messages("a", 1).await;
    world.redis.command("DEL", vec![world.redis.keys().epoch(super::world::P)]).await.unwrap();
    assert_eq!(world.ask("a", Ask::Join(Since::Start)).await, Answer::Unavailable);
}

/// What the log can prove alone is answered; the rest has to wait.
#[tokio::test]
async fn without_the_archive_the_log_says_what_it_can_prove() {
    let world = World::with_own_postgres().await;
    world.event("a", "room_created").await;
    let old = world.messages("a", 4).await;
    let five = world.messages("a", 1).await;
    // Within one millisecond the ids of five and six may follow each other, and that would be a proof.
    let between = world.messages("c", 1).await;
    let six = world.messages("a", 1).await;
    let head = world.messages("a", 2).await;
    world.event("b", "room_created").await;
    world.messages("b", 2).await;
    world.archive_all().await;
    world.trim_upto(between.id).await;
    world.stop_postgres();
    let joined = world.join("a", Since::Cursor(six)).await;
    assert_eq!((joined.resume, short(&joined.page.entries)), (Resume::Resumed, vec!["m7".into(), "m8".into()]));
    assert_eq!(world.join("a", Since::Cursor(head)).await.resume, Resume::Resumed);
    assert_eq!(short(&world.join("a", Since::Last(2)).await.page.entries), ["m7", "m8"]);
    assert_eq!(short(&world.join("b", Since::Start).await.page.entries), ["e0", "m1", "m2"]);
    // What stood before the log's beginning may be in the archive, or gone.
    for since in [Since::Cursor(old), Since::Cursor(five), Since::Start, Since::Seq(2), Since::Last(5)] {
        assert_eq!(world.ask("a", Ask::Join(since)).await, Answer::Unavailable, "{since:?}");
    }
    assert_eq!(world.ask("a", Ask::History { before: Some(4), after: None, limit: 5 }).await, Answer::Unavailable);
}

/// The torture run found it (seed 13): message 6 follows message 5 by its number, so a page without the
/// archive was taken for whole, and the event between them, trimmed from the log, was passed over silently.
#[tokio::test]
async fn an_event_that_only_the_archive_holds_is_not_passed_over() {
    let world = World::with_own_postgres().await;
    let five = world.messages("a", 5).await;
    let left = world.event("a", "user_left").await;
    world.messages("a", 2).await;
    world.archive_all().await;
    world.trim_upto(left.id).await;
    let joined = world.join("a", Since::Cursor(five)).await;
    assert_eq!(short(&joined.page.entries), ["e5", "m6", "m7"]);
    world.stop_postgres();
    assert_eq!(world.ask("a", Ask::Join(Since::Cursor(five))).await, Answer::Unavailable);
    assert_eq!(world.ask("a", Ask::Page(five)).await, Answer::Unavailable);
}
