//! Negative controls: one mistake is put in, and the checker must find it under its own name. A checker
//! that has never found anything shows nothing by finding nothing.
//!
//! Run them by `scripts/torture --controls`: they need a build with the feature `faults`.

use std::time::Duration;

use millstream::fault::Fault as Mistake;
use millstream::verify::{Rules, Verdict, ViolationKind, check};

use crate::endpoint::Mood;
use crate::fault::Fault;
use crate::nemesis::{Plot, Step};
use crate::run::{Options, run};
use crate::supervisor::Hop;
use crate::support::Mode;

/// Choices of chance are the same in each run.
const SEED: u64 = 1;
/// Traffic after the last step.
const AFTER: Duration = Duration::from_secs(3);

/// All workers of the endpoints are away for so long; something happens meanwhile.
fn without_callbacks(meanwhile: &[Fault], hold_ms: u64) -> Step {
    let mut faults = vec![Fault::Kill("callback-1"), Fault::Kill("callback-2")];
    faults.extend_from_slice(meanwhile);
    Step::new(2_000, &faults, hold_ms)
}

/// What brings a mistake to light, and harms nothing without it.
fn script(mistake: Mistake) -> Vec<Step> {
    let edges_and_redis = |mode, hold_ms| vec![Step::new(2_000, &[Fault::Hop(Hop::EdgeRedis, None, mode)], hold_ms)];
    match mistake {
        // For longer than `edge.publish_retry`: what is not written by then will never be.
        Mistake::AckBeforeXadd => edges_and_redis(Mode::Blackhole, 5_000),
        Mistake::NoDeduplication => edges_and_redis(Mode::LoseReplyTo("EVALSHA"), 1_500),
        Mistake::XackBeforeCommit => {
            // Batches are due, and can't be committed; then who held them dies.
            let faults =
                [Fault::PostgresFreeze, Fault::Wait(1_000), Fault::Kill("archive-1"), Fault::Kill("archive-2")];
            vec![Step::new(2_000, &faults, 500)]
        }
        Mistake::GroupAtDollar => {
            vec![without_callbacks(&[Fault::Wait(1_000), Fault::RedisForgetGroup("callback:data")], 1_500)]
        }
        // Frames are on their way when the connections break: their devices have not acknowledged them.
        Mistake::CursorBeforeDelivery => vec![Step::new(700, &[Fault::Cut(Hop::ClientEdge)], 100); 8],
        // Everybody catches up again and again while messages come.
        Mistake::NoSplice => vec![Step::new(400, &[Fault::Cut(Hop::ClientEdge)], 100); 20],
        // For longer than `retention.min_age`.
        Mistake::TrimWithoutFloor => vec![without_callbacks(&[], 9_000)],
        Mistake::WebhookDroppedAt500 => vec![Step::new(2_000, &[Fault::Endpoint(0, Mood::Failing)], 2_000)],
    }
}

/// The run that shows a mistake, or, without one, that its script does no harm.
fn options(script: Vec<Step>, mistake: Option<Mistake>) -> Options {
    let steps: Duration = script.iter().map(|step| step.peace + step.hold).sum();
    let waits: u64 = script.iter().flat_map(|step| &step.faults).map(Fault::waits_ms).sum();
    let mut options = Options::new(SEED, steps + Duration::from_millis(waits) + AFTER);
    options.plot = Plot { script, random: false };
    // A message is always on its way.
    options.pace = Duration::from_millis(30);
    options.env.extend(mistake.map(|mistake| ("MILLSTREAM_FAULT".to_owned(), mistake.name().to_owned())));
    options
}

/// Asserts that the checker finds something of this kind.
async fn is_found(what: &str, options: Options, expected: ViolationKind) {
    let run = run(options).await;
    let verdict = check(&run.history, &Rules::default());
    let kinds = verdict.kinds();
    println!("control {what}: {kinds:?}");
    assert!(kinds.contains(&expected), "{what}: {expected} expected, found {kinds:?}; stuck: {:?}", run.stuck);
}

async fn mistake_is_found(mistake: Mistake, expected: ViolationKind) {
    is_found(mistake.name(), options(script(mistake), Some(mistake)), expected).await;
}

/// The same scripts, one after the other, and nothing wrong: what the others find is the mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_mistake_the_same_scripts_are_valid() {
    let scripts = Mistake::ALL.into_iter().flat_map(script).collect();
    let run = run(options(scripts, None)).await;
    assert_eq!(check(&run.history, &Rules::default()), Verdict::Valid, "stuck: {:?}", run.stuck);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_before_xadd_is_missing_in_log() {
    let mistake = Mistake::AckBeforeXadd;
    let mut options = options(script(mistake), Some(mistake));
    // What is gone by retention is not looked for in the log.
    options.env.push(("MILLSTREAM__RETENTION__MIN_AGE".into(), "1h".into()));
    is_found(mistake.name(), options, ViolationKind::MissingInLog).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deduplication_is_stored_twice() {
    mistake_is_found(Mistake::NoDeduplication, ViolationKind::StoredTwice).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xack_before_commit_is_missing_in_archive() {
    mistake_is_found(Mistake::XackBeforeCommit, ViolationKind::MissingInArchive).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_at_dollar_is_missing_at_endpoint() {
    mistake_is_found(Mistake::GroupAtDollar, ViolationKind::MissingAtEndpoint).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_before_delivery_is_cursor_ahead() {
    mistake_is_found(Mistake::CursorBeforeDelivery, ViolationKind::CursorAhead).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_splice_is_missing_at_subscriber() {
    mistake_is_found(Mistake::NoSplice, ViolationKind::MissingAtSubscriber).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trim_without_floor_is_missing_at_endpoint() {
    mistake_is_found(Mistake::TrimWithoutFloor, ViolationKind::MissingAtEndpoint).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_dropped_at_500_is_missing_at_endpoint() {
    mistake_is_found(Mistake::WebhookDroppedAt500, ViolationKind::MissingAtEndpoint).await;
}

/// No mistake of ours, but of an operator: while an fsync is slow, Redis holds writes back in its memory.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everysec_and_a_slow_fsync_is_missing_in_log() {
    let mut options = options(vec![Step::new(5_000, &[Fault::RedisKill], 500)], None);
    options.slow_fsync = true;
    for (key, value) in [("MILLSTREAM__REDIS__DURABILITY", "memory"), ("MILLSTREAM__RETENTION__MIN_AGE", "1h")] {
        options.env.push((key.into(), value.into()));
    }
    is_found("everysec", options, ViolationKind::MissingInLog).await;
}
