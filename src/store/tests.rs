//! The archive against a real Postgres.

use super::testing::{database, event, execute, message, number, store};
use super::{ARCHIVE, Batch, Range, Store};
use crate::error::Kind;
use crate::model::{Cursor, Entry, EntryId, PartitionId, Partitions, Room};

const MS: u64 = 1_798_700_000_000;

fn partitions() -> Partitions {
    Partitions::new(16).unwrap()
}

fn room(name: &str) -> Room {
    Room::new(name).unwrap()
}

fn of(entry: &Entry) -> PartitionId {
    partitions().of(&entry.room)
}

async fn write(store: &Store, entries: &[Entry]) -> super::Inserted {
    let (owner, _) = store.take_over(of(&entries[0])).await.unwrap();
    let upto = entries.iter().map(|entry| entry.id).max().unwrap();
    store.commit_batch(&Batch::of(entries).unwrap(), owner, upto).await.unwrap()
}

fn seqs(entries: &[Entry]) -> Vec<(u64, bool)> {
    entries.iter().map(|entry| (entry.seq, entry.kind == crate::model::EntryKind::Event)).collect()
}

/// Redis may hand an entry out twice, and a commit's answer may be lost.
#[tokio::test]
async fn a_batch_that_is_written_twice_is_stored_once() {
    let store = store().await;
    let entries =
        [message("r", MS, 0, 1, "1"), message("r", MS, 1, 2, "2"), event("r", MS, 2, 2, "user_joined", "bob")];
    assert_eq!(write(&store, &entries).await, super::Inserted { rows: 3, duplicates: 0 });
    assert_eq!(write(&store, &entries).await, super::Inserted { rows: 0, duplicates: 3 });
    assert_eq!(number(&store, "SELECT count(*) FROM messages").await, 2);
    assert_eq!(number(&store, "SELECT count(*) FROM room_sessions").await, 1);
    assert_eq!(store.archived(of(&entries[0])).await.unwrap(), EntryId::new(MS, 2));
    assert_eq!(store.room_head(&room("r")).await.unwrap(), Some(Cursor::new(EntryId::new(MS, 2), 2)));
}

/// The answer of a commit was lost: its rows are there although nobody heard so.
#[tokio::test]
async fn rows_that_were_thought_new_are_stored_once_all_the_same() {
    let store = store().await;
    let entries: Vec<Entry> = (0..4).map(|n| message("r", MS, n, n + 1, "1")).collect();
    let left = event("r", MS, 9, 4, "user_left", "bob");
    let (owner, _) = store.take_over(of(&left)).await.unwrap();
    let again = [&entries[1], &entries[3], &left, &entries[0], &entries[2]];
    for (written, expected) in [(&again[..2], (2, 0)), (&again[..], (3, 2)), (&again[..], (0, 5))] {
        let batch = Batch::of(written.iter().copied()).unwrap().probably_new(true);
        let inserted = store.commit_batch(&batch, owner, left.id).await.unwrap();
        assert_eq!((inserted.rows, inserted.duplicates), expected);
    }
    assert_eq!(number(&store, "SELECT count(*) FROM messages").await, 4);
    assert_eq!(number(&store, "SELECT count(*) FROM room_events").await, 1);
}

/// A worker that lost its lease without noticing must not move anything.
#[tokio::test]
async fn a_former_owner_writes_nothing() {
    let store = store().await;
    let entries = [message("r", MS, 0, 1, "1")];
    let (former, _) = store.take_over(of(&entries[0])).await.unwrap();
    let (owner, _) = store.take_over(of(&entries[0])).await.unwrap();
    let batch = Batch::of(&entries).unwrap();
    let error = store.commit_batch(&batch, former, EntryId::new(MS, 0)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    let error = store.save_checkpoints(former, &[("callback:a".into(), EntryId::new(1, 0))]).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Fenced);
    assert_eq!(number(&store, "SELECT count(*) FROM messages").await, 0);
    store.commit_batch(&batch, owner, EntryId::new(MS, 0)).await.unwrap();
    store.save_checkpoints(owner, &[("callback:a".into(), EntryId::new(1, 0))]).await.unwrap();
    assert_eq!(store.checkpoint("callback:a", of(&entries[0])).await.unwrap(), Some(EntryId::new(1, 0)));
    assert_eq!(store.checkpoints(of(&entries[0])).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_row_that_cannot_be_stored_is_an_error_of_its_data() {
    let store = store().await;
    let entries = [message("r", MS, 0, 1, r#""\u0000""#)];
    let (owner, _) = store.take_over(of(&entries[0])).await.unwrap();
    let error = store.commit_batch(&Batch::of(&entries).unwrap(), owner, entries[0].id).await.unwrap_err();
    assert_eq!(error.kind(), Kind::PostgresData);
    assert_eq!(store.archived(of(&entries[0])).await.unwrap(), EntryId::ZERO);
}

#[tokio::test]
async fn a_page_holds_messages_and_events_in_the_order_of_the_log() {
    let store = store().await;
    let entries = [
        event("r", MS, 0, 0, "room_created", "alice"),
        message("r", MS, 1, 1, r#"{"b": [1, "x y"], "a": null}"#),
        event("r", MS, 2, 1, "user_joined", "bob"),
        message("r", MS + 1, 0, 2, "2"),
        message("r", MS + 1, 1, 3, "3"),
        event("r", MS + 5, 0, 3, "user_left", "bob"),
    ];
    write(&store, &entries).await;
    let r = room("r");
    let page = store.page_after(&r, EntryId::ZERO, EntryId::MAX, 4, usize::MAX).await.unwrap();
    assert_eq!(seqs(&page.entries), [(0, true), (1, false), (1, true), (2, false)]);
    assert!(page.more);
    let crate::model::Item::Message(first) = page.entries[1].open().unwrap() else { panic!("a message") };
    assert_eq!((first.user, first.cid, first.body), ("alice", "c1", r#"{"a":null,"b":[1,"x y"]}"#));
    let rest = store.page_after(&r, page.entries[3].id, EntryId::new(MS + 1, 1), 10, usize::MAX).await.unwrap();
    assert_eq!((seqs(&rest.entries), rest.more), (vec![(3, false)], false));
    // The bytes are a limit too, but one entry always fits.
    let small = store.page_after(&r, EntryId::ZERO, EntryId::MAX, 10, 1).await.unwrap();
    assert_eq!((small.entries.len(), small.more), (1, true));

    let newest = store.page_before_seq(&r, u64::MAX, EntryId::MAX, 2).await.unwrap();
    assert_eq!((seqs(&newest.entries), newest.more), (vec![(2, false), (3, false), (3, true)], true));
    let before = store.page_before_seq(&r, 2, EntryId::MAX, 2).await.unwrap();
    assert_eq!((seqs(&before.entries), before.more), (vec![(0, true), (1, false), (1, true)], false));
    let after = store.page_after_seq(&r, 1, EntryId::MAX, 1).await.unwrap();
    assert_eq!((seqs(&after.entries), after.more), (vec![(1, true), (2, false)], true));
    let bounded = store.page_after_seq(&r, 1, EntryId::new(MS + 1, 0), 5).await.unwrap();
    assert_eq!((seqs(&bounded.entries), bounded.more), (vec![(1, true), (2, false)], false));

    assert_eq!(store.floor(&r).await.unwrap(), Some(1));
    assert_eq!(store.floor(&room("none")).await.unwrap(), None);
    assert_eq!(store.message_by_seq(&r, 3).await.unwrap().unwrap().id, EntryId::new(MS + 1, 1));
    assert_eq!(store.entry_at(&r, entries[2].id).await.unwrap().unwrap().envelope, entries[2].envelope);
    assert_eq!(store.first_after(&r, entries[4].id, EntryId::MAX).await.unwrap().unwrap().id, entries[5].id);
    let next = store.first_message_after(&r, entries[1].id, EntryId::MAX).await.unwrap();
    assert_eq!(next, Some(entries[3].cursor()));
}

/// Partitions of the log share tables, and a sparse range must not be read block by block.
#[tokio::test]
async fn a_range_holds_a_partition_and_nothing_else() {
    let store = store().await;
    let far = MS + 40 * 86_400_000;
    let ours = [message("a", MS, 0, 1, "1"), message("a", MS, 1, 2, "2"), message("a", far, 0, 3, "3")];
    write(&store, &ours).await;
    write(&store, &[message("b", MS, 0, 1, "1")]).await;
    assert_ne!(partitions().of("a"), partitions().of("b"));
    let range = Range::Partition(partitions(), partitions().of("a"));
    let all = store.range(&range, EntryId::ZERO, EntryId::MAX, 10).await.unwrap();
    assert_eq!(all.iter().map(|entry| entry.id).collect::<Vec<_>>(), ours.each_ref().map(|entry| entry.id));
    let page = store.range(&range, ours[0].id, ours[1].id, 10).await.unwrap();
    assert_eq!(page.len(), 1);
    let first = store.range(&range, EntryId::ZERO, EntryId::MAX, 2).await.unwrap();
    assert_eq!(first.last().unwrap().id, ours[1].id);
    assert_eq!(store.range(&Range::Room(room("b")), EntryId::ZERO, EntryId::MAX, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn rooms_come_back_as_the_archive_left_them() {
    let store = store().await;
    let partition = partitions().of("a");
    // Names that fall into the same partition.
    let names: Vec<String> =
        (0..400).map(|i| format!("room{i}")).filter(|name| partitions().of(name) == partition).collect();
    let entries: Vec<Entry> =
        names.iter().enumerate().map(|(i, name)| message(name, MS + i as u64, 0, 7, "1")).collect();
    write(&store, &entries).await;
    write(&store, &[event(&names[0], MS, 9, 7, "room_closed", "alice")]).await;
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.rooms_of(partitions(), partition, after.as_ref(), 5).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.room.clone());
        found.extend(page);
    }
    assert_eq!(found.len(), names.len());
    assert!(found.iter().all(|state| state.head.seq == 7));
    let closed: Vec<&str> = found.iter().filter(|state| state.closed).map(|state| state.room.as_str()).collect();
    assert_eq!(closed, [names[0].as_str()]);
    let newest = store.newest_id(partitions(), partition).await.unwrap();
    assert_eq!(newest, EntryId::new(MS + names.len() as u64 - 1, 0));
    assert_eq!(store.newest_id(partitions(), PartitionId(0)).await.unwrap(), EntryId::ZERO);
}

/// A stay is a function of the events, in whatever order and however often they are told.
#[tokio::test]
async fn a_stay_ends_with_the_first_leaving_after_it() {
    let store = store().await;
    let joined = [event("r", MS, 0, 0, "user_joined", "bob"), event("r", MS, 2, 0, "user_joined", "bob")];
    let left = [event("r", MS, 1, 0, "user_left", "bob"), event("r", MS, 3, 0, "user_left", "bob")];
    write(&store, &joined).await;
    write(&store, &left[1..]).await;
    write(&store, &[left[0].clone(), left[1].clone(), joined[0].clone()]).await;
    write(&store, &[event("r", MS, 4, 0, "user_left", "carol")]).await;
    let ends = |n: u64| format!("SELECT left_n FROM room_sessions WHERE n = {n}");
    assert_eq!(number(&store, &ends(0)).await, 1);
    assert_eq!(number(&store, &ends(2)).await, 3);
    assert_eq!(number(&store, "SELECT count(*) FROM room_sessions WHERE left_at IS NOT NULL").await, 2);
}

#[tokio::test]
async fn an_entry_goes_to_the_month_of_its_id() {
    let store = store().await;
    // An old id makes its month on demand; an absurd one goes to the default.
    write(&store, &[message("r", 1_000_000_000_000, 0, 1, "1"), message("r", 5, 0, 2, "2")]).await;
    assert_eq!(number(&store, "SELECT count(*) FROM messages_y2001m09").await, 1);
    assert_eq!(number(&store, "SELECT count(*) FROM messages_default").await, 1);
    assert_eq!(store.months().await.unwrap().len(), 4);
    assert_eq!(store.drop_months(std::time::Duration::from_secs(3_600), super::months::now_ms()).await.unwrap(), 2);
    assert_eq!(number(&store, "SELECT count(*) FROM messages").await, 0);
    assert_eq!(store.months().await.unwrap().len(), 3);
}

/// What stands in the default partition must not keep the archive from taking more of that month.
#[tokio::test]
async fn a_month_that_cannot_be_made_blocks_nothing() {
    let store = store().await;
    execute(
        &store,
        "INSERT INTO messages_default (room, ms, n, seq, slot, user_id, device, cid, kind, body, sender_type) \
         VALUES ('r', 1000000000000, 0, 1, 1, 'u', 'd', 'c', 'text', '1', 'user')",
    )
    .await;
    write(&store, &[message("r", 1_000_000_000_001, 0, 2, "2")]).await;
    assert_eq!(number(&store, "SELECT count(*) FROM messages_default").await, 2);
}

#[tokio::test]
async fn several_processes_may_migrate_at_once() {
    let settings = database().await;
    let stores: Vec<Store> = (0..4).map(|_| Store::connect(&settings).unwrap()).collect();
    assert!(!stores[0].is_migrated().await.unwrap());
    let all = futures_util::future::join_all(stores.iter().map(Store::migrate)).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert!(stores[0].is_migrated().await.unwrap());
    assert_eq!(stores[0].checkpoint(ARCHIVE, PartitionId(0)).await.unwrap(), None);
}

#[tokio::test]
async fn a_postgres_that_is_away_is_waited_for() {
    let settings = crate::config::DatabaseSettings {
        url: crate::config::Secret::new("postgres://postgres@127.0.0.1:1/none"),
        connect_timeout: crate::config::Span::millis(200),
        ..crate::config::DatabaseSettings::default()
    };
    let store = Store::connect(&settings).unwrap();
    assert_eq!(store.ping().await.unwrap_err().kind(), Kind::PostgresUnavailable);
}

/// A plan is kept: one that was made while a table was small would read all of it when it has grown.
#[tokio::test]
async fn pages_are_found_by_an_index_however_small_a_table_is() {
    let settings = crate::config::DatabaseSettings { connections_max: 1, ..database().await };
    let store = Store::connect_for_pages(&settings).unwrap();
    store.migrate().await.unwrap();
    write(&store, &[event("r", MS, 0, 0, "room_created", "alice"), message("r", MS, 1, 1, "1")]).await;
    let scans = async || {
        // What a connection has counted is told others after its next statement.
        number(&store, "SELECT 1::bigint FROM (SELECT pg_stat_force_next_flush()) AS flush").await;
        let tables = "relname LIKE 'messages%' OR relname LIKE 'room_events%'";
        number(&store, &format!("SELECT sum(seq_scan)::bigint FROM pg_stat_user_tables WHERE {tables}")).await
    };
    execute(&store, "ANALYZE").await;
    let (before, r) = (scans().await, room("r"));
    assert_eq!(store.page_after(&r, EntryId::ZERO, EntryId::MAX, 9, usize::MAX).await.unwrap().entries.len(), 2);
    assert_eq!(store.page_before_seq(&r, 2, EntryId::MAX, 9).await.unwrap().entries.len(), 2);
    assert_eq!(store.page_after_seq(&r, 0, EntryId::MAX, 9).await.unwrap().entries.len(), 2);
    assert!(store.first_message_after(&r, EntryId::ZERO, EntryId::MAX).await.unwrap().is_some());
    assert!(store.message_by_seq(&r, 1).await.unwrap().is_some());
    assert!(store.entry_at(&r, EntryId::new(MS, 1)).await.unwrap().is_some());
    assert_eq!(store.floor(&r).await.unwrap(), Some(1));
    assert_eq!(scans().await, before);
}
