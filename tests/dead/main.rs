//! Dead letters in the hands of an operator: seen, given back without loss or doubling, removed. And
//! endpoints that are paused or gone.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod endpoints;
mod looking;
mod retrying;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{Callback, Receiver, Respond, Stack, StackBuilder, eventually, millstream};

/// A system that gives up after the first attempt.
fn impatient(receiver: &Receiver) -> StackBuilder {
    Stack::builder()
        .workers(&["archive", "replay"])
        .data_callback(&receiver.url())
        .env("MILLSTREAM__CALLBACK__MAX_RETRIES", "0")
        .env("MILLSTREAM__CALLBACK__RETRY_DELAY", "20ms")
}

/// The number that a callback's message has as its body.
fn number(callback: &Callback) -> Option<u64> {
    callback.json()["data"]["body"].as_u64()
}

/// Refuses messages with an odd number: between two of them something succeeds, so the breaker stays closed.
fn refuse_odd(receiver: &Receiver) {
    receiver.answer(|callback| match number(callback) {
        Some(odd) if odd % 2 == 1 => Respond::Status(500),
        _ => Respond::Status(200),
    });
}

/// Sends the numbers 1 to `upto` to a room.
async fn send_numbers(stack: &Stack, room: &str, upto: u64) {
    let mut alice = stack.client("alice", "phone").await;
    for n in 1..=upto {
        alice.send(room, &format!("c-{n}"), json!(n)).await;
    }
}

/// The dead letters with these arguments, when there are `count`.
async fn letters(stack: &Stack, args: &[&str], count: usize) -> Vec<Value> {
    let args: Vec<&str> = ["dead", "list", "--json"].iter().chain(args).copied().collect();
    eventually(&format!("{count} dead letters"), async || {
        let found = millstream(&args, stack.env()).await.ok().json().as_array().unwrap().clone();
        (found.len() == count).then_some(found)
    })
    .await
}

/// How often each message was accepted, by its number.
fn accepted(receiver: &Receiver) -> BTreeMap<u64, usize> {
    let mut times = BTreeMap::new();
    for callback in receiver.seen().iter().filter(|callback| callback.status == 200) {
        if let Some(n) = number(callback) {
            *times.entry(n).or_default() += 1;
        }
    }
    times
}

/// Refuses rows of one cid, as a constraint of the operator's own would.
async fn refuse_rows(stack: &Stack, cid: &str) {
    let refuse = format!("ALTER TABLE messages ADD CONSTRAINT ours CHECK (cid <> '{cid}')");
    sqlx::query(sqlx::AssertSqlSafe(refuse)).execute(&stack.database.pool).await.unwrap();
}
