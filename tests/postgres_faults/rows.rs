//! Rows that Postgres can't take: exactly they are parked, and whoever came with them is archived.

use millstream::config::{RedisSettings, Secret};
use millstream::model::{DeviceId, Item, Message, Partitions, Room, SenderType, UserId};
use millstream::stream::{Generation, Publish, Published, Redis};

use crate::support::{Stack, wait_until};
use crate::world::{World, builder, checkpoints_are_right, dead_letters, sql};

/// Messages of one room, straight through the publish script, as one call: they come to the archive
/// together. A body that the edge would refuse has come by another door.
async fn publish(stack: &Stack, room: &str, messages: &[(&str, &str)]) -> Vec<String> {
    let settings =
        RedisSettings { url: Secret::new(stack.redis().url()), prefix: stack.prefix.clone(), ..Default::default() };
    let redis = Redis::connect(&settings).await.unwrap();
    let room = Room::new(room).unwrap();
    let publish = |(n, (kind, body)): (usize, &(&str, &str))| {
        let cid = format!("{room}-{n}");
        let item = Item::Message(Message {
            user: "mallory",
            device: "d",
            cid: &cid,
            kind,
            body,
            sender_type: SenderType::User,
            file: None,
        });
        let mut mark = [7; 24];
        mark[..8].copy_from_slice(&(n as u64).to_be_bytes());
        let (user, device) = (UserId::new("mallory").unwrap(), DeviceId::new("d").unwrap());
        let generation = Generation::default();
        Publish { room: room.clone(), user, device, generation, mark, envelope: item.encode().into() }
    };
    let messages: Vec<Publish> = messages.iter().enumerate().map(publish).collect();
    let messages: Vec<&Publish> = messages.iter().collect();
    let p = Partitions::new(4).unwrap().of(room.as_str());
    let (_, published) = redis.publish(p, &messages, 60_000, &[]).await.unwrap();
    let id = |published: Published| match published {
        Published::Stored(cursor) => cursor.id.to_string(),
        other => panic!("not stored: {other:?}"),
    };
    published.into_iter().map(id).collect()
}

/// A batch with one row that can't be stored: the dead letter, and everything else.
async fn only_the_bad_row_is_parked(prepare: &str, kind: &str, body: &str, why: &str) {
    // One batch for all of them, and for the rows of others that come meanwhile.
    let mut world = World::start(builder().env("MILLSTREAM__ARCHIVE__MAX_DELAY", "500ms").start().await).await;
    sql(&world.stack, prepare).await;
    let mut messages = vec![("text", "1"); 21];
    messages[10] = (kind, body);
    let ids = publish(&world.stack, "bad", &messages).await;
    let parked = async || !dead_letters(&world.stack).await.is_empty();
    wait_until("the row is parked", parked).await;
    world.goes_on().await;
    let rows = world.stack.archived_when("bad", 20).await;
    let good = |n: &u64| *n != 11;
    assert!(rows.iter().map(|(seq, _)| *seq).eq((1..=21).filter(good)), "{rows:?}");
    checkpoints_are_right(&world.stack).await;
    let letters = dead_letters(&world.stack).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].0, ids[10]);
    assert!(letters[0].1.starts_with("data: ") && letters[0].1.contains(why), "{letters:?}");
    // It is still in the log, and the dead letter holds it whole.
    assert_eq!(world.stack.redis().command(["DEL", &format!("{}:dead:archive", world.stack.prefix)]).await.int(), 1);
    world.audit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_nul_is_parked_alone() {
    only_the_bad_row_is_parked("SELECT 1", "text", r#"{"a":"\u0000"}"#, "Unicode escape").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_with_a_value_too_long_is_parked_alone() {
    let prepare = "ALTER TABLE messages ALTER COLUMN kind TYPE varchar(8)";
    only_the_bad_row_is_parked(prepare, "much-too-long", "1", "too long").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_against_a_constraint_is_parked_alone() {
    let prepare = "ALTER TABLE messages ADD CONSTRAINT no_spam CHECK (kind <> 'spam')";
    only_the_bad_row_is_parked(prepare, "spam", "1", "no_spam").await;
}

/// Cause: what exceeds a limit of Postgres (class 54) was no data error, so one such row held its
/// partition up for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_nested_too_deep_is_parked_alone() {
    let body = format!("{}1{}", "[".repeat(25_000), "]".repeat(25_000));
    only_the_bad_row_is_parked("SELECT 1", "text", &body, "stack depth").await;
}
