//! A log that is lost, and lost again: what the scripts of its partition say.

use bytes::Bytes;
use millstream::error::Kind;
use millstream::model::{DeviceId, EntryId, Room, UserId};
use millstream::stream::{Generation, Owed, Publish, Seen};

use crate::bench::{Act, Bench, P0};

fn id(ms: u64) -> EntryId {
    EntryId::new(ms, 0)
}

fn message() -> Publish {
    Publish {
        room: Room::new("r").unwrap(),
        user: UserId::new("u").unwrap(),
        device: DeviceId::new("d").unwrap(),
        generation: Generation(0),
        mark: [7; 24],
        envelope: Bytes::from_static(b"envelope"),
    }
}

/// What a group is owed after a first loss was noted and not copied yet when the log was lost again: the note kept its
/// end, and what came after it was neither in the log nor owed.
#[tokio::test]
async fn a_second_loss_adds_to_what_a_group_is_owed() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let door = &bench.door;
    let groups = |ms| vec![("late".to_owned(), id(ms))];
    assert!(door.initialise(P0, "e1", id(100), id(100), EntryId::ZERO, &groups(80)).await.unwrap());
    door.publish(P0, &[&message()], 60_000, None).await.unwrap();
    bench.redis.command(["DEL", &door.keys().log(P0)]).await;
    assert!(door.initialise(P0, "e2", id(200), id(200), EntryId::ZERO, &groups(150)).await.unwrap());
    let owed = door.positions(P0).await.unwrap().unwrap().owed;
    assert_eq!(owed, [("late".to_owned(), Owed { after: id(80), upto: id(200) })]);
}

/// The log of an emptied Redis whose clock is behind, which somebody wrote into before it was filled: it ends before what
/// is archived and has an entry of its own. It was not noted what the archive has beside it for a group.
#[tokio::test]
async fn a_log_that_ends_too_early_and_has_other_entries_owes_its_groups_what_it_lost() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let door = &bench.door;
    let groups = |ms| vec![("late".to_owned(), id(ms))];
    assert!(door.initialise(P0, "e1", id(70), id(70), EntryId::ZERO, &groups(70)).await.unwrap());
    door.publish(P0, &[&message()], 60_000, None).await.unwrap();
    let archived = id(door.newest_id(&door.keys().log(P0)).await.unwrap().unwrap().ms + 3_600_000);
    assert!(door.log_lost(P0, "e1", archived).await.unwrap());
    assert!(door.initialise(P0, "e2", archived, archived, EntryId::ZERO, &groups(80)).await.unwrap());
    let owed = door.positions(P0).await.unwrap().unwrap().owed;
    assert_eq!(owed, [("late".to_owned(), Owed { after: id(80), upto: archived })]);
    assert_eq!(door.length(&door.keys().log(P0)).await.unwrap(), 2, "what only the log has stays in it");
}

/// A log that is gone with its numbers has lost what somebody has seen in it: that is no mistake of the script, and the
/// partition is filled again.
#[tokio::test]
async fn a_log_that_is_gone_with_its_numbers_is_lost() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let door = &bench.door;
    assert!(door.initialise(P0, "e1", id(100), id(100), EntryId::ZERO, &[("g".to_owned(), id(100))]).await.unwrap());
    bench.redis.command(["DEL", &door.keys().log(P0), &door.keys().seq(P0)]).await;
    let seen = Seen { epoch: "e1".into(), id: id(100) };
    let refused = door.publish(P0, &[&message()], 60_000, Some(&seen)).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotInitialised, "{refused}");
    assert_eq!(door.epoch(P0).await.unwrap(), None);
}
