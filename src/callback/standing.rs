//! Whether an endpoint is paused or asked to wait, in Redis: for other processes, and after a
//! restart.
//!
//! The hash `mill:callback:<name>` has `paused_at` (milliseconds since the epoch) while the
//! endpoint is paused and `not_before` after a `Retry-After`. Deleting `paused_at`, or the whole
//! key, resumes the endpoint within [`INTERVAL`].

use std::sync::Arc;
use std::time::Duration;

use tracing::debug;

use super::clock::millis;
use super::dispatch::Dispatcher;
use super::gate::Unsaved;
use crate::error::Result;
use crate::shutdown::Shutdown;
use crate::stream::Redis;

/// How soon a process learns what happened at another, and an operator's resumption.
const INTERVAL: Duration = Duration::from_secs(1);

/// Since when an endpoint is paused, in milliseconds since the epoch; nothing if it isn't.
///
/// # Errors
/// As Redis answers.
pub async fn paused_at(redis: &Redis, endpoint: &str) -> Result<Option<u64>> {
    let reply = redis.command("HGET", vec![redis.keys().callback(endpoint), "paused_at".into()]).await?;
    Ok(reply.optional_text()?.and_then(|at| at.parse().ok()))
}

/// Until when an endpoint has asked to wait, in milliseconds since the epoch; nothing if that is over.
///
/// # Errors
/// As Redis answers.
pub async fn waits_until(redis: &Redis, endpoint: &str) -> Result<Option<u64>> {
    let key = redis.keys().callback(endpoint);
    let reply = redis.command("HGET", vec![key.as_str(), "not_before"]).await?;
    let Some(until) = reply.optional_text()?.and_then(|at| at.parse::<u64>().ok()) else { return Ok(None) };
    let now = redis.time_ms(&key).await?;
    Ok(Some(until).filter(|until| *until > now))
}

/// Pauses an endpoint, in all processes. What comes waits in the log; attempts under way end as they
/// do. `false`: it was paused already.
///
/// # Errors
/// As Redis answers.
pub async fn pause(redis: &Redis, endpoint: &str) -> Result<bool> {
    let key = redis.keys().callback(endpoint);
    let now = redis.time_ms(&key).await?.to_string();
    let args = vec![key, "paused_at".into(), now];
    Ok(redis.command("HSETNX", args).await?.int()? > 0)
}

/// Forgets what is known of an endpoint that is gone for good.
///
/// # Errors
/// As Redis answers.
pub async fn forget(redis: &Redis, endpoint: &str) -> Result<()> {
    redis.command("DEL", vec![redis.keys().callback(endpoint)]).await.map(|_| ())
}

/// Resumes a paused endpoint, in all processes. Whether it was paused.
///
/// # Errors
/// As Redis answers.
pub async fn resume(redis: &Redis, endpoint: &str) -> Result<bool> {
    let reply = redis.command("HDEL", vec![redis.keys().callback(endpoint), "paused_at".into()]).await?;
    Ok(reply.int()? > 0)
}

/// Brings the endpoint's gate up to date with what Redis knows.
///
/// # Errors
/// As Redis answers.
pub(super) async fn load(redis: &Redis, dispatcher: &Dispatcher) -> Result<()> {
    let key = redis.keys().callback(&dispatcher.endpoint.name);
    let values = redis.command("HMGET", vec![key.as_str(), "paused_at", "not_before"]).await?.list()?;
    let paused = values.first().is_some_and(|value| !value.is_nil());
    let not_before = values.get(1).and_then(|value| value.int().ok()).and_then(|ms| u64::try_from(ms).ok());
    dispatcher.clock.set(redis.time_ms(&key).await?);
    let now_ms = dispatcher.clock.now_ms();
    let wait = not_before.map(|ms| Duration::from_millis(ms.saturating_sub(now_ms)));
    dispatcher.gate.apply(paused, wait.filter(|wait| !wait.is_zero()));
    Ok(())
}

/// Keeps Redis and the endpoint's gate in step until `shutdown`. Redis being away costs nothing:
/// the gate holds what it knows, and writes it later.
pub(super) async fn keep(redis: Redis, dispatcher: Arc<Dispatcher>, shutdown: Shutdown) {
    loop {
        let news = tokio::select! {
            () = shutdown.requested() => break,
            unsaved = dispatcher.gate.unsaved() => Some(unsaved),
            () = tokio::time::sleep(INTERVAL) => None,
        };
        let done = match news {
            Some(unsaved) => save(&redis, &dispatcher, unsaved).await,
            None => load(&redis, &dispatcher).await,
        };
        if let Err(error) = done {
            debug!(endpoint = dispatcher.endpoint.name, %error, "the endpoint's state is not in step with Redis");
            shutdown.sleep(INTERVAL).await;
        }
    }
    // Attempts end after the request to stop, and may still bring news.
    if let Some(unsaved) = dispatcher.gate.unsaved_now() {
        let _ = save(&redis, &dispatcher, unsaved).await;
    }
}

async fn save(redis: &Redis, dispatcher: &Dispatcher, unsaved: Unsaved) -> Result<()> {
    let mut args = vec![redis.keys().callback(&dispatcher.endpoint.name)];
    if unsaved.pause {
        args.extend(["paused_at".into(), dispatcher.clock.now_ms().to_string()]);
    }
    if let Some(until) = unsaved.not_before {
        let wait = until.saturating_duration_since(tokio::time::Instant::now());
        let until = dispatcher.clock.now_ms().saturating_add(millis(wait));
        args.extend(["not_before".into(), until.to_string()]);
    }
    redis.command("HSET", args).await?;
    dispatcher.gate.saved(unsaved);
    Ok(())
}
