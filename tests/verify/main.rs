//! `millstream verify` on real servers: it agrees while everything goes on, finds each single
//! difference under its name, and changes nothing.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};
use support::{Process, Receiver, Respond, Stack, wait_until};

/// Messages of each room of a quiet system.
const MESSAGES: usize = 12;

/// What `verify --json` said, and how it ended.
async fn verify(stack: &Stack, args: &[&str]) -> (Option<i32>, Value) {
    let mut command = tokio::process::Command::new(Process::path("millstream"));
    command.arg("verify").arg("--json").args(args).stdin(Stdio::null()).env_clear().kill_on_drop(true);
    command.envs(stack.env().iter().map(|(key, value)| (key, value)));
    let output = tokio::time::timeout(support::DEADLINE, command.output()).await.expect("it ends in time").unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| json!({ "err": err }));
    (output.status.code(), said)
}

/// An endpoint that writes its account as `scripts/receiver.py --out` does, before it answers.
struct Endpoint {
    receiver: Receiver,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Endpoint {
    async fn start() -> Self {
        let (receiver, folder) = (Receiver::start().await, tempfile::tempdir().unwrap());
        let path = folder.path().join("received.jsonl");
        let mut file = File::create(&path).unwrap();
        let mut seen = std::collections::HashSet::new();
        receiver.answer(move |callback| {
            let duplicate = !seen.insert(callback.id().to_owned());
            let line = json!({ "id": callback.id(), "replay": false, "duplicate": duplicate, "body": callback.json() });
            // In one write: `verify` reads the file meanwhile.
            file.write_all(format!("{line}\n").as_bytes()).unwrap();
            Respond::Status(200)
        });
        Self { receiver, path, _folder: folder }
    }

    fn account(&self) -> &str {
        self.path.to_str().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        std::fs::read_to_string(&self.path).unwrap().lines().map(str::to_owned).collect()
    }

    /// The account with other lines, as a file of its own.
    fn altered(&self, name: &str, lines: &[String]) -> String {
        let path = self.path.with_file_name(name);
        std::fs::write(&path, lines.join("\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// A system with everything settled: messages in these rooms, in log, archive and account.
async fn settled(rooms: &[&str]) -> (Stack, Endpoint) {
    let endpoint = Endpoint::start().await;
    let stack = Stack::builder().data_callback(&endpoint.receiver.url()).start().await;
    let mut client = stack.client("alice", "phone").await;
    for room in rooms {
        for n in 0..MESSAGES {
            client.send(room, &format!("{room}-{n}"), json!({ "b": n, "a": [1.50, "x"] })).await;
        }
    }
    all_settled(&stack, &endpoint).await;
    (stack, endpoint)
}

async fn all_settled(stack: &Stack, endpoint: &Endpoint) {
    wait_until("everything is archived and called back", async || {
        let (code, said) = verify(stack, &["--account", endpoint.account()]).await;
        assert_eq!(code, Some(0), "{said}");
        said["not_archived_yet"] == 0 && said["not_called_yet"] == 0
    })
    .await;
}

/// It differs, in these kinds.
fn assert_differs((code, said): (Option<i32>, Value), kinds: &[&str]) {
    let found: Vec<&str> = said["kinds"].as_object().unwrap_or_else(|| panic!("{said}")).keys().map(|k| &**k).collect();
    assert_eq!((code, found), (Some(1), kinds.to_vec()), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_agrees_on_a_healthy_system_under_traffic() {
    let endpoint = Endpoint::start().await;
    let stack = Stack::builder()
        .data_callback(&endpoint.receiver.url())
        .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
        .start()
        .await;
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut client = stack.client("alice", "phone").await;
    let traffic = tokio::spawn({
        let (stop, sent) = (stop.clone(), sent.clone());
        async move {
            while !stop.load(Ordering::SeqCst) {
                let n = sent.load(Ordering::SeqCst);
                client.send(&format!("room{}", n % 5), &format!("c{n}"), json!({ "n": n })).await;
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    for _ in 0..4 {
        let before = sent.load(Ordering::SeqCst);
        wait_until("traffic goes on", async || sent.load(Ordering::SeqCst) >= before + 50).await;
        let (code, said) = verify(&stack, &["--account", endpoint.account()]).await;
        assert_eq!((code, &said["agrees"]), (Some(0), &json!(true)), "{said}");
        assert!(said["entries"].as_u64().unwrap() >= before, "{said}");
    }
    stop.store(true, Ordering::SeqCst);
    traffic.await.unwrap();
    all_settled(&stack, &endpoint).await;
}

#[tokio::test]
async fn each_difference_of_log_and_archive_is_found_under_its_name() {
    let (stack, _endpoint) = settled(&["deleted", "altered", "hole", "whole"]).await;
    let pool = &stack.database.pool;
    sqlx::query("DELETE FROM messages WHERE room = 'deleted' AND seq = 5").execute(pool).await.unwrap();
    assert_differs(verify(&stack, &["--room", "deleted"]).await, &["missing-in-archive"]);
    sqlx::query(r#"UPDATE messages SET body = '{"b": 0}' WHERE room = 'altered' AND seq = 5"#)
        .execute(pool)
        .await
        .unwrap();
    assert_differs(verify(&stack, &["--room", "altered"]).await, &["body-altered"]);
    let gone = stack.log("hole").await.into_iter().find(|entry| entry.seq == 5 && entry.cid.is_some()).unwrap();
    stack.redis().command(["XDEL", &stack.key_of("hole", "log"), &gone.id]).await;
    let (code, said) = verify(&stack, &["--room", "hole"]).await;
    assert_eq!((&said["differences"][0]["room"], &said["differences"][0]["id"]), (&json!("hole"), &json!(gone.id)));
    assert_differs((code, said), &["missing-in-log"]);
    sqlx::query("UPDATE messages SET seq = 105 WHERE room = 'whole' AND seq = 5").execute(pool).await.unwrap();
    assert_differs(verify(&stack, &["--room", "whole"]).await, &["seq-altered"]);
    sqlx::query("UPDATE messages SET seq = 5 WHERE room = 'whole' AND seq = 105").execute(pool).await.unwrap();
    assert_eq!(verify(&stack, &["--room", "whole"]).await.0, Some(0));
    // All at once, and by patterns.
    let (code, said) = verify(&stack, &["--room", "del*", "--room", "alt*"]).await;
    assert_differs((code, said), &["body-altered", "missing-in-archive"]);
    assert_differs(verify(&stack, &[]).await, &["body-altered", "missing-in-archive", "missing-in-log"]);
    // What lies before or after the difference agrees.
    assert_eq!(verify(&stack, &["--room", "hole", "--from", &gone.id]).await.0, Some(1));
    let after = format!("{}-99", gone.id.split('-').next().unwrap());
    assert_eq!(verify(&stack, &["--room", "hole", "--from", &after]).await.0, Some(0));
}

/// Below the log's beginning only the archive can be looked at, and its numbers must be dense.
#[tokio::test]
async fn below_the_logs_beginning_the_archive_must_be_dense() {
    let (stack, _endpoint) = settled(&["r"]).await;
    let first = stack.log("r").await.into_iter().find(|entry| entry.seq == 8).unwrap();
    stack.redis().command(["XTRIM", &stack.key_of("r", "log"), "MINID", &first.id]).await;
    let (code, said) = verify(&stack, &["--room", "r"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said["only_archive"].as_u64().unwrap() >= 7, "{said}");
    sqlx::query("DELETE FROM messages WHERE room = 'r' AND seq = 4").execute(&stack.database.pool).await.unwrap();
    let (code, said) = verify(&stack, &["--room", "r"]).await;
    assert!(said["differences"][0]["message"].as_str().unwrap().contains("number 4 to 4"), "{said}");
    assert_differs((code, said), &["seq-gap"]);
}

#[tokio::test]
async fn each_difference_of_an_endpoints_account_is_found_under_its_name() {
    let (stack, endpoint) = settled(&["r", "s"]).await;
    let lines = endpoint.lines();
    let of_r: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].contains("\"cid\":\"r-")).collect();
    assert_eq!(of_r.len(), MESSAGES);
    let with = |name: &str, change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        endpoint.altered(name, &lines)
    };
    let at = of_r[4];
    let (missing, doubled) =
        (with("missing", &|l| drop(l.remove(at))), with("doubled", &|l| l.insert(at, l[at].clone())));
    let known = with("known", &|l| l.insert(at + 1, l[at].replace("\"duplicate\":false", "\"duplicate\":true")));
    let swapped = with("swapped", &|l| l.swap(of_r[4], of_r[5]));
    let altered = with("altered", &|l| l[at] = l[at].replace("1.5", "2.5"));
    let invented = with("invented", &|l| {
        let mut line: Value = serde_json::from_str(&l[at]).unwrap();
        let id = line["body"]["data"]["id"].as_str().unwrap().replace('-', "-77");
        line["id"] = line["id"].as_str().unwrap().replace(line["body"]["data"]["id"].as_str().unwrap(), &id).into();
        line["body"]["data"]["id"] = id.into();
        l.insert(at + 1, line.to_string());
    });
    let other_id = with("id", &|l| l[at] = l[at].replacen("msg_", "msg_9", 1));
    let whole = endpoint.account().to_owned();
    let wrong: [(&String, &[&str]); 6] = [
        (&missing, &["missing-at-endpoint"]),
        (&doubled, &["delivered-twice"]),
        (&swapped, &["order-broken"]),
        (&altered, &["body-altered"]),
        (&invented, &["invented"]),
        (&other_id, &["webhook-id-unstable"]),
    ];
    for (account, kinds) in wrong {
        assert_differs(verify(&stack, &["--account", account]).await, kinds);
        // Of another room it says nothing.
        let wider = verify(&stack, &["--account", &whole, "--endpoint", "data", "--room", "s"]).await;
        assert_eq!(wider.0, Some(0), "{}", wider.1);
    }
    let (code, said) = verify(&stack, &["--account", &known]).await;
    assert_eq!((code, &said["repeated"]), (Some(0), &json!(1)), "{said}");
}

/// What Postgres refuses is parked: neither missing nor forgotten.
#[tokio::test]
async fn a_parked_row_is_named_as_such() {
    let stack = Stack::start().await;
    let pool = &stack.database.pool;
    sqlx::query("ALTER TABLE messages ADD CONSTRAINT own CHECK (cid <> 'bad')").execute(pool).await.unwrap();
    let mut client = stack.client("alice", "phone").await;
    for cid in ["a", "bad", "b"] {
        client.send("r", cid, json!(cid)).await;
    }
    wait_until("it is parked", async || {
        let (code, said) = verify(&stack, &[]).await;
        assert_eq!(code, Some(0), "{said}");
        said["parked"] == 1 && said["not_archived_yet"] == 0
    })
    .await;
}

#[tokio::test]
async fn it_changes_nothing() {
    let (stack, endpoint) = settled(&["r", "s"]).await;
    // Whoever else would change something ends first.
    ["edge", "archive", "replay", "callback"].iter().for_each(|name| stack.kill9(name));
    let before = everything(&stack).await;
    let (code, said) = verify(&stack, &["--account", endpoint.account()]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said["entries"].as_u64().unwrap() >= 2 * MESSAGES as u64, "{said}");
    assert_eq!(everything(&stack).await, before);
}

/// All keys of the stack that don't expire by themselves, and all rows.
async fn everything(stack: &Stack) -> (Vec<(String, Vec<u8>)>, Vec<(String, i64, Option<String>)>) {
    let mut keys = Vec::new();
    for key in stack.redis().command(["KEYS", &format!("{}*", stack.prefix)]).await.list() {
        let key = key.text();
        if stack.redis().command(["PTTL", &key]).await.int() == -1 {
            keys.push((key.clone(), stack.redis().command(["DUMP", &key]).await.bytes()));
        }
    }
    keys.sort();
    assert!(keys.len() > 4, "{keys:?}");
    let mut tables = Vec::new();
    for table in ["messages", "room_events", "rooms", "cursors", "checkpoints", "room_sessions"] {
        let query = format!("SELECT count(*), md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t");
        let (count, digest) = sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_one(&stack.database.pool).await.unwrap();
        tables.push((table.to_owned(), count, digest));
    }
    (keys, tables)
}

/// Neither agrees nor differs: scripts must be able to tell.
#[tokio::test]
async fn what_could_not_look_ends_with_another_code() {
    let stack = Stack::builder().edges(0).workers(&["archive"]).start().await;
    let nowhere = format!("database.url=postgres://postgres@127.0.0.1:{}/none", support::free_port());
    let (code, said) = verify(&stack, &["--set", &nowhere]).await;
    assert_eq!(code, Some(3), "{said}");
    let nowhere = format!("redis.url=redis://127.0.0.1:{}", support::free_port());
    assert_eq!(verify(&stack, &["--set", &nowhere]).await.0, Some(3));
    assert_eq!(verify(&stack, &["--account", "/nowhere", "--endpoint", "x"]).await.0, Some(2));
    assert_eq!(verify(&stack, &["--rate", "0"]).await.0, Some(2));
}
