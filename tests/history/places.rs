//! The same answer, wherever the entries are held.

use millstream::model::{Answer, Ask, Cursor, EntryId, ResetReason, Resume, Since};
use millstream::store::Range;

use super::world::{P, World, assert_dense, short};

/// Where the twelve entries of room `a` are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Log,
    Both,
    Spliced,
    Overlapping,
    Archive,
}

const PLACES: [Place; 5] = [Place::Log, Place::Both, Place::Spliced, Place::Overlapping, Place::Archive];

/// `e0 e0 m1 m2 m3 e3 m4 m5 m6 m7 e7 e7`, with another room between them.
async fn twelve(place: Place) -> (World, Vec<Cursor>) {
    let world = World::new().await;
    let mut at = Vec::new();
    for step in "e e m m m e m m m m e e".split(' ') {
        at.push(match (step, at.len()) {
            ("e", 0) => world.event("a", "room_created").await,
            ("e", _) => world.event("a", "user_joined").await,
            _ => world.messages("a", 1).await,
        });
        world.messages("b", 3).await;
    }
    match place {
        Place::Log => {}
        Place::Both => world.archive_all().await,
        Place::Spliced => {
            world.archive_upto(at[6].id).await;
            world.trim_upto(at[6].id).await;
        }
        Place::Overlapping => {
            world.archive_upto(at[8].id).await;
            world.trim_upto(at[4].id).await;
        }
        Place::Archive => {
            world.archive_all().await;
            world.trim_upto(EntryId::new(u64::MAX - 1, 0)).await;
        }
    }
    (world, at)
}

#[tokio::test]
async fn every_beginning_is_found_wherever_the_entries_are() {
    for place in PLACES {
        let (world, at) = twelve(place).await;
        let all = ["e0", "e0", "m1", "m2", "m3", "e3", "m4", "m5", "m6", "m7", "e7", "e7"];
        for (since, first, resume) in [
            (Since::Start, 0, Resume::Fresh),
            (Since::Seq(0), 0, Resume::Fresh),
            (Since::Last(7), 0, Resume::Fresh),
            (Since::Last(50), 0, Resume::Fresh),
            (Since::Cursor(Cursor::START), 0, Resume::Fresh),
            (Since::Last(6), 3, Resume::Fresh),
            (Since::Last(4), 6, Resume::Fresh),
            (Since::Last(1), 9, Resume::Fresh),
            (Since::Seq(3), 5, Resume::Fresh),
            (Since::Seq(6), 9, Resume::Fresh),
            (Since::Seq(7), 10, Resume::Fresh),
            (Since::Cursor(at[0]), 1, Resume::Resumed),
            (Since::Cursor(at[4]), 5, Resume::Resumed),
            (Since::Cursor(at[5]), 6, Resume::Resumed),
            (Since::Cursor(at[9]), 10, Resume::Resumed),
            (Since::Cursor(at[10]), 11, Resume::Resumed),
            (Since::Cursor(at[11]), 12, Resume::Resumed),
            (Since::Now, 12, Resume::Fresh),
        ] {
            let joined = world.join("a", since).await;
            let what = format!("{since:?} in {place:?}");
            assert_eq!((joined.resume, joined.reason), (resume, None), "{what}");
            assert_eq!(short(&joined.page.entries), all[first..], "{what}");
            assert_dense(joined.since, &joined.page.entries);
            assert_eq!((joined.head, joined.page.more, joined.page.upto.seq), (at[11], false, 7), "{what}");
            assert!(joined.page.upto.id >= at[11].id, "{what}");
        }
    }
}

#[tokio::test]
async fn pages_go_on_over_the_splice() {
    for place in PLACES {
        let (mut world, at) = twelve(place).await;
        world.settings.page_entries = 5;
        for (since, count) in [(Since::Start, 12), (Since::Last(4), 6), (Since::Cursor(at[1]), 10)] {
            assert_eq!(world.read_on("a", since).await.len(), count, "{since:?} in {place:?}");
        }
    }
}

#[tokio::test]
async fn history_gives_events_once_and_says_what_there_is() {
    for place in PLACES {
        let (world, at) = twelve(place).await;
        for (before, after, limit, wanted, more) in [
            (None, None, 2, vec!["m6", "m7", "e7", "e7"], true),
            (None, None, 7, vec!["e0", "e0", "m1", "m2", "m3", "e3", "m4", "m5", "m6", "m7", "e7", "e7"], false),
            (Some(6), None, 3, vec!["m3", "e3", "m4", "m5"], true),
            (Some(3), None, 50, vec!["e0", "e0", "m1", "m2"], false),
            (Some(1), None, 50, vec![], false),
            (None, Some(0), 2, vec!["e0", "e0", "m1", "m2"], true),
            (None, Some(2), 1, vec!["m3", "e3"], true),
            (None, Some(5), 50, vec!["m6", "m7", "e7", "e7"], false),
            (None, Some(7), 50, vec![], false),
            (None, Some(99), 50, vec![], false),
        ] {
            let what = format!("before {before:?} after {after:?} limit {limit} in {place:?}");
            match world.ask("a", Ask::History { before, after, limit }).await {
                Answer::History { entries, more: is_more, floor, head } => {
                    assert_eq!(short(&entries), wanted, "{what}");
                    assert_eq!((is_more, floor, head), (more, 1, at[11]), "{what}");
                }
                other => panic!("{other:?} {what}"),
            }
        }
    }
}

/// Where older messages are gone for good, delivery begins at the oldest that is held, and says so to
/// those who named a message.
#[tokio::test]
async fn what_is_gone_is_announced() {
    for place in [Place::Spliced, Place::Overlapping, Place::Archive] {
        let (world, at) = twelve(place).await;
        world.drop_archived("a", 2).await;
        let floor = Cursor::new(at[4].id.previous(), 2);
        for (since, resume, reason) in [
            (Since::Start, Resume::Fresh, None),
            (Since::Last(6), Resume::Fresh, None),
            (Since::Seq(2), Resume::Fresh, None),
            (Since::Seq(1), Resume::Reset, Some(ResetReason::Trimmed)),
            (Since::Cursor(at[2]), Resume::Reset, Some(ResetReason::Trimmed)),
        ] {
            let joined = world.join("a", since).await;
            let what = format!("{since:?} in {place:?}");
            assert_eq!((joined.resume, joined.reason, joined.since.seq), (resume, reason, 2), "{what}");
            assert!(joined.since.id <= floor.id && joined.since.id >= at[3].id, "{what}");
            assert_eq!(short(&joined.page.entries).last().unwrap(), "e7", "{what}");
            assert_dense(joined.since, &joined.page.entries);
        }
        let (reset, page) = world.page("a", at[2]).await;
        assert_eq!(reset.map(|(reason, from)| (reason, from.seq)), Some((ResetReason::Trimmed, 2)));
        assert!(page.entries.iter().any(|entry| entry.cursor() == at[4]));
        match world.ask("a", Ask::History { before: Some(5), after: None, limit: 50 }).await {
            Answer::History { entries, more, floor, .. } => {
                assert_eq!((short(&entries), more, floor), (vec!["m3".into(), "e3".into(), "m4".into()], false, 3));
            }
            other => panic!("{other:?}"),
        }
        match world.ask("a", Ask::History { before: None, after: Some(0), limit: 2 }).await {
            Answer::History { entries, more, .. } => {
                assert_eq!((short(&entries), more), (vec!["m3".into(), "e3".into(), "m4".into()], true));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stretch_gives_each_entry_once() {
    for place in PLACES {
        let (world, at) = twelve(place).await;
        let one = millstream::model::Partitions::new(1).unwrap();
        let room = millstream::model::Room::new("a").unwrap();
        for (range, count) in [(Range::Partition(one, P), 4 * 11 + 1), (Range::Room(room), 12)] {
            let (mut entries, mut after) = (Vec::new(), EntryId::ZERO);
            loop {
                let part = world.history().stretch(P, &range, after, at[11].id, 5).await.unwrap();
                assert!(part.entries.len() <= 5);
                entries.extend(part.entries);
                after = part.upto;
                if part.ended {
                    break;
                }
            }
            let ids: Vec<EntryId> = entries.iter().map(|entry| entry.id).collect();
            assert!(ids.is_sorted_by(|one, next| one < next), "{place:?}");
            assert_eq!(ids.len(), count, "{place:?} {range:?}");
        }
    }
}

/// Events were archived, the first message wasn't yet: the room begins with the events all the same.
#[tokio::test]
async fn a_room_whose_first_message_is_not_archived_begins_with_its_events() {
    let mut world = World::new().await;
    world.settings.scan_entries = 10_000;
    world.event("a", "room_created").await;
    world.event("a", "user_joined").await;
    world.messages("b", 2_500).await;
    world.archive_all().await;
    world.messages("a", 2).await;
    world.messages("b", 10).await;
    for since in [Since::Start, Since::Last(5), Since::Seq(0)] {
        let joined = world.join("a", since).await;
        assert_eq!((joined.resume, joined.since), (Resume::Fresh, Cursor::START), "{since:?}");
        assert_eq!(short(&joined.page.entries), ["e0", "e0", "m1", "m2"], "{since:?}");
        assert!(!joined.page.more);
    }
    assert_eq!(short(&world.join("a", Since::Last(1)).await.page.entries), ["m2"]);
}
