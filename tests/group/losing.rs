//! A log that is lost, and lost again: what the scripts of its partition say.

use std::sync::Arc;

use bytes::Bytes;
use millstream::config::{Settings, Span};
use millstream::error::Kind;
use millstream::model::{DeviceId, EntryId, PartitionId, Partitions, Room, UserId};
use millstream::publish::{Known, Outcome, Publisher, Witness};
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
    door.publish(P0, &[&message()], 60_000, &[]).await.unwrap();
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
    door.publish(P0, &[&message()], 60_000, &[]).await.unwrap();
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
    let refused = door.publish(P0, &[&message()], 60_000, &[seen]).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::NotInitialised, "{refused}");
    assert_eq!(door.epoch(P0).await.unwrap(), None);
}

/// Somebody who has not heard yet that the log has a new epoch.
struct Late;

impl Witness for Late {
    fn seen(&self, _: PartitionId) -> Option<Seen> {
        Some(Seen { epoch: "before".into(), id: id(1) })
    }
}

/// For up to a second after a log was filled again, an edge's tail still names the epoch before. What the edge had
/// stored itself since did not count meanwhile, and its number could be given again.
#[tokio::test]
async fn what_a_publisher_has_stored_counts_even_if_its_witness_has_not_heard_of_the_epoch() {
    let bench = Bench::new(1, |_| Act::Done).await;
    let door = &bench.door;
    assert!(door.initialise(P0, "now", id(100), id(100), EntryId::ZERO, &[("g".to_owned(), id(100))]).await.unwrap());
    let mut settings = Settings::default();
    settings.edge.publish_retry = Span::millis(1);
    let partitions = Partitions::new(1).unwrap();
    let publisher =
        Publisher::start(door, &settings, partitions, Known::new(partitions, Some(Arc::new(Late)))).await.unwrap();
    let stored = publisher.publish(message()).await;
    assert!(matches!(stored, Outcome::Accepted { duplicate: false, .. }), "{stored:?}");
    // As on a replica that was promoted without it.
    let log = door.keys().log(P0);
    bench.redis.command(["DEL", &log]).await;
    bench.redis.command(["XGROUP", "CREATE", &log, "g", "0", "MKSTREAM"]).await;
    bench.redis.command(["XSETID", &log, "100-0"]).await;
    let next = Publish { mark: [8; 24], ..message() };
    assert_eq!(publisher.publish(next).await, Outcome::Unavailable);
    assert_eq!(door.epoch(P0).await.unwrap(), None, "it is compared with the archive first");
}
