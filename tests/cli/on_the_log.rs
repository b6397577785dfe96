//! Commands on a running system: init, publish, tail, groups, flush, trim, dead.

use serde_json::json;

use crate::millstream;
use crate::support::{Process, Stack, eventually, wait_until};

/// Settings under which the archive writes only when it is asked to.
fn lazy_archive() -> crate::support::StackBuilder {
    Stack::builder()
        .edges(0)
        .workers(&["archive"])
        .env("MILLSTREAM__ARCHIVE__MAX_DELAY", "1h")
        .env("MILLSTREAM__ARCHIVE__MAX_ROWS", "5000")
}

async fn publish(stack: &Stack, room: &str, body: &str) -> serde_json::Value {
    millstream(&["publish", "--room", room, "--user", "op", "--json", body], stack.env()).await.ok().json()
}

#[tokio::test]
async fn init_prepares_both_servers_and_may_be_repeated() {
    let stack = Stack::builder().edges(0).workers(&[]).start().await;
    let first = millstream(&["init", "--json"], stack.env()).await.ok().json();
    assert_eq!(first["redis"]["recorded"], true);
    assert_eq!(first["postgres"]["migrated"], true);
    let again = millstream(&["init", "--json"], stack.env()).await.ok().json();
    assert_eq!((&again["redis"]["recorded"], &again["postgres"]["migrated"]), (&json!(false), &json!(false)));
    let other = millstream(&["init", "--set", "redis.partitions=32"], stack.env()).await;
    assert_eq!(other.code, Some(2));
    assert!(other.err.contains("redis.partitions"), "{}", other.err);
}

#[tokio::test]
async fn what_is_published_twice_with_one_cid_is_stored_once() {
    let stack = lazy_archive().start().await;
    let args = ["publish", "--room", "r", "--user", "op", "--cid", "c1", "--kind", "note", "--json", r#"{"a": 1}"#];
    let first = millstream(&args, stack.env()).await.ok().json();
    assert_eq!((&first["seq"], &first["duplicate"]), (&json!(1), &json!(false)));
    let again = millstream(&args, stack.env()).await.ok().json();
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    let mut other = args;
    other[10] = "something else";
    let conflict = millstream(&other, stack.env()).await;
    assert_eq!(conflict.code, Some(2));
    assert!(conflict.err.contains("c1"), "{}", conflict.err);
    assert_eq!(stack.logged("r").await, [(1, "c1".to_owned())]);
}

#[tokio::test]
async fn tail_shows_what_comes_as_frames_of_the_protocol() {
    let stack = lazy_archive().start().await;
    publish(&stack, "room", "before").await;
    let tail = Process::spawn("millstream", &["tail", "--room", "room", "--json"], stack.env());
    wait_until("it tails", async || tail.stderr().contains("tailing")).await;
    publish(&stack, "elsewhere", "not this").await;
    let sent = publish(&stack, "room", "hello").await;
    let line = eventually("a line", async || tail.stdout().lines().next().map(str::to_owned)).await;
    let frame: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&frame["type"], &frame["room"], &frame["body"]), (&json!("message"), &json!("room"), &json!("hello")));
    assert_eq!((&frame["id"], &frame["seq"], &frame["sender_type"]), (&sent["id"], &json!(2), &json!("service")));
    tail.signal("INT");
    assert_eq!(tail.status().await.code(), Some(0));

    let from = millstream(&["tail", "--from", "-1h", "--json", "--room", "room", "-n", "3"], stack.env()).await.ok();
    let bodies: Vec<_> = from.json_lines().into_iter().map(|frame| frame["body"].clone()).collect();
    assert!(bodies.contains(&json!("before")), "{bodies:?}");
}

#[tokio::test]
async fn groups_tell_owner_position_and_lag() {
    let stack = lazy_archive().start().await;
    for n in 0..5 {
        publish(&stack, "room", &format!("m{n}")).await;
    }
    let archive = eventually("the archive has taken them", async || {
        let groups = millstream(&["groups", "--json"], stack.env()).await.ok().json();
        let groups: Vec<_> = groups.as_array().unwrap().iter().filter(|g| g["group"] == "archive").cloned().collect();
        let lag: u64 = groups.iter().map(|g| g["lag_entries"].as_u64().unwrap()).sum();
        (lag >= 5 && groups.iter().any(|g| g["pending"].as_u64() >= Some(5))).then_some(groups)
    })
    .await;
    assert_eq!(archive.len(), 4);
    let behind = archive.iter().find(|g| g["lag_entries"].as_u64() > Some(0)).unwrap();
    assert!(behind["owner"].is_string() && behind["oldest"].is_string(), "{behind}");
    assert!(behind["lag_seconds"].as_f64().unwrap() > 0.0 && behind["lag_exact"] == true, "{behind}");
    let table = millstream(&["groups"], stack.env()).await.ok();
    assert!(table.out.contains("GROUP") && table.out.contains("archive"), "{}", table.out);
    assert!(!table.out.contains('\u{1b}'));
}

#[tokio::test]
async fn flush_returns_only_when_the_rows_are_in_postgres() {
    let stack = lazy_archive().start().await;
    for round in 1..=3 {
        for n in 0..10 {
            publish(&stack, "room", &format!("{round}-{n}")).await;
        }
        let said = millstream(&["flush", "--room", "room"], stack.env()).await.ok();
        assert_eq!(stack.archived("room").await.len(), round * 10, "{}", said.out);
    }
}

#[tokio::test]
async fn flush_gives_up_in_time_without_an_archive() {
    let stack = lazy_archive().start().await;
    publish(&stack, "room", "kept").await;
    stack.kill9("archive");
    publish(&stack, "room", "not archived").await;
    let said = millstream(&["flush", "--timeout", "300ms"], stack.env()).await;
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("flush"), "{}", said.err);
}

/// A trim that took what the archive had not written would lose it for good.
#[tokio::test]
async fn a_trim_stops_at_what_is_not_archived_and_only_force_passes_it() {
    let stack = lazy_archive().start().await;
    for n in 0..10 {
        publish(&stack, "room", &format!("archived {n}")).await;
    }
    millstream(&["flush"], stack.env()).await.ok();
    for n in 0..5 {
        publish(&stack, "room", &format!("not yet {n}")).await;
    }
    let before = stack.log("room").await.len();
    let plan = millstream(&["trim", "--keep", "0", "--json"], stack.env()).await.ok().json();
    assert_eq!((&plan["executed"], &plan["removed"]), (&json!(false), &json!(0)));
    let lossy: Vec<_> = plan["partitions"].as_array().unwrap().iter().filter(|p| p["lossy"] == true).collect();
    let concerned = lossy.iter().find(|p| p["losses"][0]["group"] == "archive").expect("the archive would lose some");
    let loss = &concerned["losses"][0];
    assert_eq!(loss["unread"].as_u64().unwrap() + loss["pending"].as_u64().unwrap(), 5, "{plan}");
    assert_eq!(stack.log("room").await.len(), before, "a plan changes nothing");

    let done = millstream(&["trim", "--keep", "0", "--execute", "--json"], stack.env()).await.ok().json();
    assert!(done["removed"].as_u64().unwrap() >= 9, "{done}");
    let bodies: Vec<_> = stack.log("room").await.into_iter().map(|entry| entry.body).collect();
    // The entry at the checkpoint itself stays too: it is what the group's position refers to.
    let mut stay = vec![json!("archived 9")];
    stay.extend((0..5).map(|n| json!(format!("not yet {n}"))));
    assert_eq!(bodies, stay);

    let forced = millstream(&["trim", "--keep", "0", "--execute", "--force-lossy"], stack.env()).await.ok();
    assert!(forced.out.contains("destroyed for archive"), "{}", forced.out);
    assert!(stack.log("room").await.is_empty());
}

/// Under load the plan is old when it is executed; the check in Redis is what keeps the word.
#[tokio::test]
async fn a_trim_under_load_loses_nothing() {
    let stack = Stack::builder().workers(&["archive"]).env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0").start().await;
    let mut alice = stack.client("alice", "phone").await;
    let trims = async {
        for _ in 0..15 {
            millstream(&["trim", "--keep", "0", "--execute"], stack.env()).await.ok();
        }
    };
    let sends = async {
        for n in 0..400 {
            alice.send("busy", &format!("c-{n}"), json!(n)).await;
        }
    };
    tokio::join!(trims, sends);
    let rows = stack.archived_when("busy", 400).await;
    assert_eq!(rows.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), (1..=400).collect::<Vec<_>>());
}

#[tokio::test]
async fn dead_letters_of_an_unknown_group_are_no_empty_list() {
    let stack = lazy_archive().start().await;
    publish(&stack, "room", "x").await;
    let none = millstream(&["dead", "list", "--json"], stack.env()).await.ok();
    assert_eq!(none.json(), json!([]));
    let unknown = millstream(&["dead", "list", "callback:nobody"], stack.env()).await;
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.err.contains("archive"), "{}", unknown.err);
}
