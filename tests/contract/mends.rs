//! What a review found, each held by the test that fails without its mend.

use millstream::config::{RedisSettings, Secret};
use millstream::model::{Cursor, DeviceId, EntryId, PartitionId, Room, UserId};
use millstream::stream::{DeviceCursors, DeviceHolder, Generation, MemberStep, Publish, Published, Redis, Step};

use std::time::Duration;

use serde_json::json;

use crate::support;

const P: PartitionId = PartitionId(0);

/// A connection to the shared Redis, under a prefix of its own whose partition 0 is initialised.
async fn redis() -> Redis {
    on(support::Redis::shared().await).await
}

async fn on(server: &support::Redis) -> Redis {
    let prefix = support::unique("mends");
    server.command(["SET", &format!("{prefix}:{{0}}:epoch"), "e"]).await;
    let settings = RedisSettings { url: Secret::new(server.url()), prefix, ..RedisSettings::default() };
    Redis::connect(&settings).await.unwrap()
}

fn message(n: u64) -> Publish {
    let mut mark = [7; 24];
    mark[..8].copy_from_slice(&n.to_be_bytes());
    Publish {
        room: Room::new("hall").unwrap(),
        user: UserId::new("backend").unwrap(),
        device: DeviceId::new("d").unwrap(),
        generation: Generation::default(),
        mark,
        envelope: vec![0; 10].into(),
    }
}

/// A call whose answer was lost is repeated whole: none of its messages may be stored again, however
/// many of one device it carried.
#[tokio::test]
async fn a_large_call_that_is_repeated_stores_nothing_twice() {
    let redis = redis().await;
    let messages: Vec<Publish> = (0..256).map(message).collect();
    let messages: Vec<&Publish> = messages.iter().collect();
    let (_, first) = redis.publish(P, &messages, 60_000, &[]).await.unwrap();
    let (_, again) = redis.publish(P, &messages, 60_000, &[]).await.unwrap();
    for (n, (first, again)) in first.into_iter().zip(again).enumerate() {
        let Published::Stored(place) = first else { panic!("{n}: {first:?}") };
        assert_eq!((place.seq, again), (n as u64 + 1, Published::Known(place)));
    }
}

/// WAIT asks for what its own connection wrote last (Valkey 8). So a repeat must write, or it would be
/// acknowledged by replicas that were never asked for the message.
#[tokio::test]
async fn a_repeat_writes_so_that_replicas_are_asked_for_it() {
    let server = support::Redis::start(&[]).await;
    let redis = on(&server).await;
    let written = async || {
        let info = server.command(["INFO", "persistence"]).await.text();
        let changes = info.lines().find_map(|line| line.strip_prefix("rdb_changes_since_last_save:")).unwrap();
        changes.trim().parse::<u64>().unwrap()
    };
    let message = message(1);
    let (_, first) = redis.publish(P, &[&message], 60_000, &[]).await.unwrap();
    let before = written().await;
    let (_, again) = redis.publish(P, &[&message], 60_000, &[]).await.unwrap();
    assert!(matches!((&first[..], &again[..]), ([Published::Stored(a)], [Published::Known(b)]) if a == b));
    assert!(written().await > before);
}

/// Every stay on an edge that is gone ends, however many there were.
#[tokio::test]
async fn a_gone_edge_with_many_members_is_swept_to_its_end() {
    let redis = redis().await;
    let steps: Vec<MemberStep> = (0..6_000)
        .map(|n| MemberStep {
            step: Step::Join,
            room: Room::new("hall").unwrap(),
            user: UserId::new(&format!("u{n}")).unwrap(),
            connection: format!("gone-{n}"),
        })
        .collect();
    for steps in steps.chunks(500) {
        redis.count_members(P, "gone", Duration::ZERO, &[], steps).await.unwrap();
    }
    support::wait_until("nobody is left", async || {
        millstream::presence::sweep(&redis, P, Duration::ZERO).await.unwrap();
        redis.command("HLEN", vec![redis.keys().members(P)]).await.unwrap().int().unwrap() == 0
            && redis.command("ZCARD", vec![redis.keys().leaving(P)]).await.unwrap().int().unwrap() == 0
            && redis.command("SCARD", vec![redis.keys().member_edges(P)]).await.unwrap().int().unwrap() == 0
    })
    .await;
    // One room_created, and for each user that they came and went.
    assert_eq!(redis.length(&redis.keys().log(P)).await.unwrap(), 1 + 2 * 6_000);
}

/// Once a newer connection of a device has stored something, what an older one still has to say is refused,
/// however long its cid has been forgotten.
#[tokio::test]
async fn an_older_connection_stores_nothing_after_a_newer_one() {
    let redis = redis().await;
    let publish = async |generation, n| {
        let message = Publish { generation: Generation(generation), ..message(n) };
        redis.publish(P, &[&message], 60_000, &[]).await.unwrap().1[0]
    };
    let is_stored = |published: Published| assert!(matches!(published, Published::Stored(_)), "{published:?}");
    // By who has no connection, or a version that knew of no generations.
    is_stored(publish(0, 0).await);
    let first = publish(5, 1).await;
    is_stored(first);
    let Published::Stored(place) = first else { unreachable!("it is stored") };
    assert_eq!(publish(9, 1).await, Published::Known(place), "repeated on a newer connection");
    is_stored(publish(5, 2).await);
    for n in 3..=200 {
        is_stored(publish(9, n).await);
        assert_eq!(publish(5, 1_000 + n).await, Published::Superseded(Generation(9)));
    }
    assert!(matches!(publish(5, 200).await, Published::Known(_)), "what is known is no loss");
    assert_eq!(publish(5, 1).await, Published::Superseded(Generation(9)), "its cid is forgotten");
    is_stored(publish(0, 500).await);
    let call = [(12, 601), (9, 602), (12, 603)];
    let call = call.map(|(generation, n)| Publish { generation: Generation(generation), ..message(n) });
    let (_, published) = redis.publish(P, &call.each_ref(), 60_000, &[]).await.unwrap();
    is_stored(published[0]);
    assert_eq!(published[1], Published::Superseded(Generation(12)), "in one call, too");
    is_stored(published[2]);
    assert_eq!(publish(9, 604).await, Published::Superseded(Generation(12)));
}

/// A newer connection has a higher generation, also if the older one has ended or Redis' clock was set back.
#[tokio::test]
async fn a_newer_connection_has_a_higher_generation() {
    let redis = redis().await;
    let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    let holder = |edge: &str, connection| DeviceHolder { edge: edge.to_owned(), connection };
    let hold =
        async |holder: &DeviceHolder| redis.hold_device(&user, &device, holder, Duration::from_secs(60)).await.unwrap();
    let (older, newer) = (holder("one", 7), holder("two", 1));
    let (before, first) = hold(&older).await;
    assert_eq!(before, None);
    let (before, second) = hold(&newer).await;
    assert_eq!(before.as_ref(), Some(&older));
    assert!(second > first, "{second:?} after {first:?}");
    let release = async |holder| redis.release_device(&user, &device, holder, Duration::from_secs(60)).await.unwrap();
    release(&older).await;
    assert_eq!(redis.device_holder(&user, &device).await.unwrap().as_ref(), Some(&newer), "it is not the older's");
    release(&newer).await;
    assert_eq!(redis.device_holder(&user, &device).await.unwrap(), None);
    let (before, third) = hold(&older).await;
    assert_eq!(before, None);
    assert!(third > second, "{third:?} after {second:?}");
    let ahead = 1 << 52;
    let held = vec![redis.keys().device(&user, &device), format!("two 2 {ahead}")];
    redis.command("SET", held).await.unwrap();
    assert_eq!(hold(&older).await.1, Generation(ahead + 1));
    let raise =
        async |to| redis.raise_generation(&user, &device, Generation(to), Duration::from_secs(60)).await.unwrap();
    raise(ahead + 100).await;
    raise(ahead + 50).await;
    assert_eq!(redis.device_holder(&user, &device).await.unwrap().as_ref(), Some(&older), "it keeps the device");
    assert_eq!(hold(&newer).await.1, Generation(ahead + 101));
    release(&newer).await;
    raise(ahead + 200).await;
    assert_eq!(redis.device_holder(&user, &device).await.unwrap(), None);
    assert_eq!(hold(&older).await.1, Generation(ahead + 201));
}

/// As if a device had stored something before Redis' clock was set back by hours, or before a failover to a node whose
/// clock is behind.
async fn set_clock_back(stack: &support::Stack) {
    let memory = stack.key_of("hall", "dedup:alice/phone");
    let ahead: u64 = 1 << 52;
    let bytes = ahead.to_be_bytes();
    let command = [b"SETRANGE", memory.as_bytes(), b"16", &bytes[..]];
    assert!(!stack.redis().command(command).await.is_error());
}

/// A connection that Redis held for older than what its device had stored was told `unavailable` for ever, on every new
/// connection too, until Redis' clock had caught up.
#[tokio::test]
async fn a_device_whose_newest_connection_is_taken_for_an_older_comes_back_and_writes() {
    let stack = support::Stack::start().await;
    let mut first = stack.client("alice", "phone").await;
    first.send("hall", "one", json!(1)).await;
    set_clock_back(&stack).await;
    first.send_frame(&json!({ "type": "send", "room": "hall", "cid": "two", "body": 2 })).await;
    let bye = first.expect("bye").await;
    assert_eq!((&bye["reason"], &bye["reconnect"]), (&json!("restart"), &json!(true)), "{bye}");
    assert_eq!(first.closed().await.0, 1012);
    assert_eq!(stack.metric("edge", "millstream_sends_superseded_total").await, 1.0);

    let mut again = stack.client("alice", "phone").await;
    let sent = again.send("hall", "two", json!(2)).await;
    assert_eq!((&sent["seq"], &sent["duplicate"]), (&json!(2), &json!(false)), "{sent}");
    assert_eq!(again.send("hall", "one", json!(1)).await["duplicate"], true);
    stack.assert_no_panic();
}

/// The other reason: a newer connection has the device, and this one has not heard of it.
#[tokio::test]
async fn a_connection_that_writes_after_a_newer_one_is_told_that_it_was_replaced() {
    let stack = support::Stack::start().await;
    let mut older = stack.client("alice", "phone").await;
    older.send("hall", "one", json!(1)).await;
    let device = format!("{}:device:alice:phone", stack.prefix);
    let newer = format!("another-edge 7 {}", 1_u64 << 52);
    stack.redis().command(["SET", &device, &newer]).await;
    set_clock_back(&stack).await;
    older.send_frame(&json!({ "type": "send", "room": "hall", "cid": "two", "body": 2 })).await;
    let bye = older.expect("bye").await;
    assert_eq!((&bye["reason"], &bye["reconnect"]), (&json!("replaced"), &json!(false)), "{bye}");
    assert_eq!(older.closed().await.0, 4504);
    assert_eq!(stack.redis().command(["GET", &device]).await.text(), newer, "the device is the newer's");
    assert_eq!(stack.logged("hall").await, [(1, "one".to_owned())]);
    stack.assert_no_panic();
}

/// What a device has sent is remembered for `edge.cursor_ttl`, and by which connection: so the order of its connections
/// is remembered for as long. It was for an hour.
#[tokio::test]
async fn the_order_of_connections_is_kept_as_long_as_what_they_have_sent() {
    let stack = support::Stack::start().await;
    let mut named = stack.client("alice", "phone").await;
    named.send("hall", "one", json!(1)).await;
    named.close().await;
    let key = format!("{}:device:alice:phone", stack.prefix);
    support::wait_until("the device is released", async || {
        !stack.redis().command(["GET", &key]).await.text().contains(' ')
    })
    .await;
    let left = stack.redis().command(["PTTL", &key]).await.int();
    let memory = stack.redis().command(["PTTL", &stack.key_of("hall", "dedup:alice/phone")]).await.int();
    assert!(left >= memory - 1_000, "{left} of {memory}");
}

/// A write that comes late, from an edge that the device has left, takes nothing back.
#[tokio::test]
async fn a_saved_cursor_never_goes_back() {
    let redis = redis().await;
    let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    let room = Room::new("hall").unwrap();
    let save = async |ms, n, seq| {
        let cursors = vec![(room.clone(), Cursor::new(EntryId::new(ms, n), seq))];
        let saved = DeviceCursors { user: user.clone(), device: device.clone(), cursors };
        redis.save_cursors(&[saved], Duration::from_secs(60)).await.unwrap();
        redis.cursors(&user, &device).await.unwrap()[0].1.seq
    };
    assert_eq!(save(1_000, 5, 10).await, 10);
    assert_eq!(save(999, 9, 9).await, 10, "an older millisecond");
    assert_eq!(save(1_000, 4, 9).await, 10, "earlier in the same one");
    assert_eq!(save(1_000, 6, 11).await, 11);
    assert_eq!(save(2_000, 0, 3).await, 3, "another history: ids go on, numbers need not");
}

/// No user's inbox is another's, whatever their names hold.
#[test]
fn no_two_users_share_an_inbox() {
    let inbox = |user: &str| Room::inbox(&UserId::new(user).unwrap());
    assert_eq!(inbox("alice").as_str(), "@user:alice");
    assert_ne!(inbox("a b"), inbox("a.20b"));
    assert_ne!(inbox("auth0|1"), inbox("auth0.7c1"));
    assert_ne!(inbox(&"é".repeat(32)), inbox(&"è".repeat(32)));
}
