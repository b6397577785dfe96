//! Negative controls: one mistake is put in, and the checker must find it under its own name; the same
//! script without the mistake must be valid. A checker that has never found anything shows nothing by
//! finding nothing.
//!
//! Run them by `scripts/torture --controls`: they need a build with the feature `faults`.
//!
//! # Design
//! A script is made so that its mistake shows whatever the machine does: it lasts for longer than what the mistake
//! needs, and messages come all the time. What a mistake may show beside its name is listed, each with a reason;
//! anything else is a finding about the checker, the harness or the product, and fails.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use millstream::fault::Fault as Mistake;
use millstream::verify::{Rules, Verdict, ViolationKind, check};

use crate::endpoint::Mood;
use crate::fault::Fault;
use crate::judge;
use crate::nemesis::{Plot, Step};
use crate::run::{Options, Run, run};
use crate::supervisor::Hop;
use crate::support::Mode;

/// Choices of chance are the same in each run.
const SEED: u64 = 1;
/// Traffic after the last step.
const AFTER: Duration = Duration::from_secs(2);
/// The log keeps everything: what is gone from it is looked for.
const KEEPS_ALL: (&str, &str) = ("MILLSTREAM__RETENTION__MIN_AGE", "1h");

/// A mistake, and how it comes to light.
struct Control {
    name: &'static str,
    /// Redis' `appendfsync` without the mistake and with it, where that is what it is about.
    appendfsync: [Option<&'static str>; 2],
    /// Whether readers come and stay.
    steady: bool,
    /// What only the run with the mistake is given.
    mistake: Vec<(&'static str, &'static str)>,
    /// Settings of both runs.
    env: Vec<(&'static str, &'static str)>,
    /// What happens in both runs.
    script: Vec<Step>,
    /// What must have happened in both runs, for the script to have done its work.
    required: Vec<&'static str>,
    /// Under which names the mistake must be found, under each of them.
    found: Vec<ViolationKind>,
    /// Under which it may be found beside.
    follows: Vec<ViolationKind>,
}

impl Control {
    fn of(mistake: Mistake, script: Vec<Step>, found: ViolationKind) -> Self {
        Self {
            name: mistake.name(),
            appendfsync: [None; 2],
            steady: false,
            mistake: vec![("MILLSTREAM_FAULT", mistake.name())],
            env: Vec::new(),
            script,
            required: vec!["fault"],
            found: vec![found],
            follows: Vec::new(),
        }
    }

    fn options(&self, with: bool) -> Options {
        let steps: Duration = self.script.iter().map(|step| step.peace + step.hold).sum();
        let mut options = Options::new(SEED, steps + AFTER);
        options.plot = Plot { script: self.script.clone(), random: false };
        // A message is always on its way.
        options.pace = Duration::from_millis(30);
        options.progress = false;
        options.steady = self.steady;
        options.appendfsync = self.appendfsync[usize::from(with)];
        let env = self.env.iter().chain(self.mistake.iter().filter(|_| with));
        options.env.extend(env.map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        options
    }

    /// Runs the script without the mistake, and with it.
    async fn holds(&self) {
        let (begin, name) = (Instant::now(), self.name);
        let without = run(self.options(false)).await;
        let (verdict, more) = judge::judge(&without, &self.required);
        if verdict != Verdict::Valid || !more.is_empty() {
            let at = self.keep(&without, "without");
            panic!("{name}: its script without the mistake is to be valid: {verdict:?} {more:?}; {at}");
        }

        let with = run(self.options(true)).await;
        let verdict = check(&with.history, &Rules::requiring(&self.required));
        let kinds: BTreeSet<ViolationKind> = verdict.kinds().into_iter().collect();
        let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
        println!("control {name}: {}; without it: valid ({} s)", names.join(", "), begin.elapsed().as_secs());
        let expected = |kind: &ViolationKind| self.found.contains(kind) || self.follows.contains(kind);
        if !self.found.iter().all(|kind| kinds.contains(kind)) || !kinds.iter().all(expected) {
            let (at, stuck) = (self.keep(&with, "with"), &with.stuck);
            let (found, follows) = (&self.found, &self.follows);
            panic!("{name}: {found:?} is to be found, and {follows:?} may be: {verdict:?}; stuck: {stuck:?}; {at}");
        }
    }

    fn keep(&self, run: &Run, which: &str) -> String {
        let lines: Vec<String> = match check(&run.history, &Rules::default()) {
            Verdict::Invalid(violations) => violations.iter().map(ToString::to_string).collect(),
            other => vec![format!("{other:?}")],
        };
        let name = format!("millstream-control-{}-{which}-{}", self.name, std::process::id());
        format!("history and logs: {}", judge::keep(run, &lines, &std::env::temp_dir().join(name)).display())
    }
}

/// An edge says `sent`, and Redis is away for longer than the edge tries: the message is nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ack_before_xadd_is_found() {
    let script = vec![Step::new(2_000, &[Fault::Hop(Hop::EdgeRedis, None, Mode::Down)], 5_000)];
    let mut control = Control::of(Mistake::AckBeforeXadd, script, ViolationKind::MissingInLog);
    control.env.push(KEEPS_ALL);
    control.required.push("retry");
    control.follows = vec![
        // What is nowhere isn't there either.
        ViolationKind::MissingInArchive,
        // Who answers before the log knows the place has to invent it.
        ViolationKind::AnswerDisagrees,
        // Whoever hears of it and sends may be written first; and the order of what is nowhere is by invented places.
        ViolationKind::RealTimeOrderBroken,
        ViolationKind::OrderBroken,
    ];
    control.holds().await;
}

/// The script has run and the answer is lost: edge and publisher send again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_deduplication_is_found() {
    let script = vec![Step::new(2_000, &[Fault::Hop(Hop::EdgeRedis, None, Mode::LoseReplyTo("EVALSHA"))], 1_500)];
    let mut control = Control::of(Mistake::NoDeduplication, script, ViolationKind::StoredTwice);
    control.required.push("lost-reply");
    control.holds().await;
}

/// Batches are due and can't be committed; then the workers die that had acknowledged them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xack_before_commit_is_found() {
    let faults = [Fault::PostgresFreeze, Fault::Wait(1_500), Fault::Kill("archive-1"), Fault::Kill("archive-2")];
    let script = vec![Step::new(2_000, &faults, 500)];
    let mut control = Control::of(Mistake::XackBeforeCommit, script, ViolationKind::MissingInArchive);
    control.env.push(KEEPS_ALL);
    control.required.push("kill");
    control.holds().await;
}

/// Nobody reads for an endpoint, entries come, and its group is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_at_dollar_is_found() {
    let faults = [
        Fault::Kill("callback-1"),
        Fault::Kill("callback-2"),
        Fault::Wait(1_500),
        Fault::RedisForgetGroup("callback:data"),
    ];
    let script = vec![Step::new(2_000, &faults, 500)];
    let mut control = Control::of(Mistake::GroupAtDollar, script, ViolationKind::MissingAtEndpoint);
    control.required.push("kill");
    control.holds().await;
}

/// Frames are on their way when connections break: their devices have not acknowledged them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursor_before_delivery_is_found() {
    let script = vec![Step::new(700, &[Fault::Cut(Hop::ClientEdge)], 100); 8];
    let mut control = Control::of(Mistake::CursorBeforeDelivery, script, ViolationKind::CursorAhead);
    control.required.push("catch-up");
    control.holds().await;
}

/// Everybody catches up again and again while messages come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_splice_is_found() {
    let script = vec![Step::new(400, &[Fault::Cut(Hop::ClientEdge)], 100); 16];
    let mut control = Control::of(Mistake::NoSplice, script, ViolationKind::MissingAtSubscriber);
    control.required.push("catch-up");
    control.holds().await;
}

/// Nobody reads for an endpoint for longer than retention keeps what nobody needs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trim_without_floor_is_found() {
    let script = vec![Step::new(1_000, &[Fault::Kill("callback-1"), Fault::Kill("callback-2")], 6_000)];
    let mut control = Control::of(Mistake::TrimWithoutFloor, script, ViolationKind::MissingAtEndpoint);
    control.env.push(("MILLSTREAM__RETENTION__MIN_AGE", "3s"));
    control.required.extend(["kill", "trim"]);
    control.holds().await;
}

/// An endpoint refuses everything for a while.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn webhook_dropped_at_500_is_found() {
    let script = vec![Step::new(2_000, &[Fault::Endpoint(0, Mood::Failing)], 2_000)];
    let mut control = Control::of(Mistake::WebhookDroppedAt500, script, ViolationKind::MissingAtEndpoint);
    control.required.push("callback-retry");
    control.holds().await;
}

/// No mistake of ours, but of an operator: while an fsync takes its time, Redis holds writes back in its memory for up to
/// two seconds, and has answered them. Nothing of it was archived before: that would have more names, as numbers are
/// given again.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everysec_with_a_slow_fsync_is_found() {
    let faults = [
        Fault::Kill("archive-1"),
        Fault::Kill("archive-2"),
        Fault::RedisDiskHangs,
        // A second at most until the next fsync begins, and two until Redis waits for it.
        Fault::Wait(3_000),
        Fault::RedisKill,
    ];
    Control {
        name: "everysec",
        appendfsync: [Some("always"), Some("everysec")],
        // Redis counts who is in a room: with a leaving that it lost, a stay would end only with its edge.
        steady: true,
        // The edges would not start on such a Redis.
        mistake: vec![("MILLSTREAM__REDIS__DURABILITY", "memory")],
        env: vec![KEEPS_ALL],
        script: vec![Step::new(2_000, &faults, 500)],
        required: vec!["fault:RedisDiskHangs", "fault:RedisKill", "retry"],
        found: vec![ViolationKind::MissingInLog],
        follows: vec![
            // What is nowhere isn't there either.
            ViolationKind::MissingInArchive,
            // What is sent once more is new to a Redis that lost it, and gets another place.
            ViolationKind::AnswerDisagrees,
            ViolationKind::RealTimeOrderBroken,
            // A `live` before the `reset` speaks of numbers that were lost, and are given again.
            ViolationKind::MissingAtSubscriber,
        ],
    }
    .holds()
    .await;
}
