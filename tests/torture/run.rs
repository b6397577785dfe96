//! One run, from the first process to the verdict.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream::model::{EntryId, Room};
use millstream::verify::{Fact, History};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::nemesis::{Board, Nemesis, Plot};
use crate::publisher::{self, Publisher};
use crate::recorder::Recorder;
use crate::subscriber::{self, Style, Subscriber};
use crate::supervisor::{MIN_AGE, PROCESSES, System};
use crate::support::Format;
use crate::wire::Identity;
use crate::{collect, drain};

/// Rooms: more than partitions.
const ROOMS: usize = 10;
/// How long the participants may take to finish after the last fault.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a line about progress is written.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// How often the metrics of the processes are looked at.
const GLANCE_INTERVAL: Duration = Duration::from_secs(2);
/// How often it is seen to that all processes run.
const KEEP_INTERVAL: Duration = Duration::from_millis(500);

/// What a run is to be.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// Every choice of chance follows from it.
    pub(crate) seed: u64,
    /// How long things are broken.
    pub(crate) duration: Duration,
    /// What is broken.
    pub(crate) plot: Plot,
    pub(crate) publishers: usize,
    /// Mean time between two messages of a publisher.
    pub(crate) pace: Duration,
    /// Settings for all processes, over the usual ones.
    pub(crate) env: Vec<(String, String)>,
    /// Redis' `appendfsync`, on a disk that can be made to hang; nothing: as `durability = "fsync"` asks, on the
    /// disk as it is.
    pub(crate) appendfsync: Option<&'static str>,
    /// Whether readers come and stay.
    pub(crate) steady: bool,
    /// Whether a line every few seconds tells how it goes.
    pub(crate) progress: bool,
}

impl Options {
    /// All faults that there are.
    pub(crate) fn new(seed: u64, duration: Duration) -> Self {
        let (plot, publishers, pace) = (Plot::everything(), 6, Duration::from_millis(80));
        let (env, appendfsync, steady, progress) = (Vec::new(), None, false, true);
        Self { seed, duration, plot, publishers, pace, env, appendfsync, steady, progress }
    }
}

/// What came of it.
pub(crate) struct Run {
    pub(crate) history: History,
    /// What did not come to its end in time, if something did not.
    pub(crate) stuck: Option<String>,
    /// What each process wrote to standard error.
    pub(crate) logs: Vec<(String, String)>,
}

/// How far the run is, for its participants.
#[derive(Clone)]
pub(crate) struct Stage(watch::Receiver<Phase>);

/// The parts of a run.
#[derive(Clone)]
enum Phase {
    /// Publishers write, things break.
    Traffic,
    /// Nothing is broken any more; publishers empty their outboxes.
    Emptying,
    /// Readers read up to here, and go.
    Reading(Arc<BTreeMap<Room, EntryId>>),
}

impl Stage {
    /// Whether nothing new is to be written.
    pub(crate) fn is_ending(&self) -> bool {
        !matches!(*self.0.borrow(), Phase::Traffic)
    }

    /// Up to where readers are to read before they go; nothing while there is more to come.
    pub(crate) fn targets(&self) -> Option<Arc<BTreeMap<Room, EntryId>>> {
        match &*self.0.borrow() {
            Phase::Reading(targets) => Some(targets.clone()),
            Phase::Traffic | Phase::Emptying => None,
        }
    }

    /// Waits for this long, or until readers are to come to their end.
    pub(crate) async fn ending_within(&mut self, time: Duration) {
        let _ = timeout(time, self.0.wait_for(|phase| matches!(phase, Phase::Reading(_)))).await;
    }
}

/// Runs it.
pub(crate) async fn run(options: Options) -> Run {
    let recorder = Recorder::new();
    let system = System::start(&recorder, &options).await;
    let board = Board::default();
    let mut happened = BTreeSet::new();
    let watching = watch_over(&options, &system, &recorder, &board, &mut happened);
    let (phase, stage) = watch::channel(Phase::Traffic);
    let cast = Cast { options: &options, system: &system, recorder: &recorder, stage: Stage(stage), rooms: rooms() };
    let stuck = tokio::select! {
        ended = play(&cast, &phase, &board) => ended.err(),
        () = watching => unreachable!("it watches for ever"),
    };
    let scribe = recorder.scribe("supervisor");
    collect::metrics(&system, &scribe, &mut happened).await;
    for (process, _) in PROCESSES.iter().rev() {
        system.terminate(process).await;
    }
    collect::everything(&system, &scribe).await;
    if stuck.is_none() {
        scribe.note(Fact::Collected);
    }
    let logs = PROCESSES.iter().map(|(name, _)| ((*name).to_owned(), system.log(name))).collect();
    Run { history: recorder.history(), stuck, logs }
}

/// Traffic under faults, and everything until nothing is under way any more.
async fn play(cast: &Cast<'_>, phase: &watch::Sender<Phase>, board: &Board) -> Result<(), String> {
    let Cast { options, system, recorder, rooms, .. } = cast;
    let mut publishers = cast.publishers();
    let mut subscribers = cast.subscribers();
    let nemesis = Nemesis::new(system, recorder.scribe("nemesis"), board.clone(), stream(options.seed, 3, 0));
    nemesis.run(options.plot.clone(), Instant::now() + options.duration).await;

    recorder.scribe("supervisor").note(Fact::Healed);
    if options.progress {
        println!("[{:>4}s] healed: waiting for everybody to finish", recorder.elapsed_s());
    }
    drain::until("all processes are ready", async || system.is_ready()).await?;
    phase.send_replace(Phase::Emptying);
    ended("publisher", &mut publishers).await?;
    drain::flush(system).await?;
    let targets = Arc::new(drain::heads(system, rooms).await);
    phase.send_replace(Phase::Reading(targets));
    // One who comes only now has everything from replay.
    cast.enter(&mut subscribers, "last", cast.plan(99, Style::Steady, false));
    ended("subscriber", &mut subscribers).await?;
    drain::stays_are_over(system).await?;
    drain::flush(system).await?;
    drain::groups_are_done(system).await
}

/// Waits until all of them have ended.
async fn ended(what: &str, participants: &mut JoinSet<()>) -> Result<(), String> {
    let all = async {
        while let Some(ended) = participants.join_next().await {
            ended.unwrap_or_else(|error| panic!("a {what} failed: {error}"));
        }
    };
    let waited = timeout(PATIENCE, all).await;
    waited.map_err(|_| format!("{} {what}s had not finished {PATIENCE:?} after the last fault", participants.len()))
}

/// Keeps processes running, looks what happens in them, and tells how it goes. Never ends.
async fn watch_over(
    options: &Options,
    system: &System,
    recorder: &Recorder,
    board: &Board,
    happened: &mut BTreeSet<&'static str>,
) {
    let (mut next_line, mut next_glance) = (Instant::now(), Instant::now());
    let scribe = recorder.scribe("supervisor");
    loop {
        system.keep();
        if options.progress && next_line <= Instant::now() {
            next_line += LINE_INTERVAL;
            let (accepted, delivered) = recorder.counts();
            let faults = board.lock().unwrap().join(", ");
            let elapsed = recorder.elapsed_s();
            println!("[{elapsed:>4}s] sent {accepted:>6}  delivered {delivered:>7}  faults: {faults}");
        }
        if next_glance <= Instant::now() {
            collect::happened(system, &scribe, happened).await;
            next_glance = Instant::now() + GLANCE_INTERVAL;
        }
        sleep(KEEP_INTERVAL).await;
    }
}

fn rooms() -> Vec<Room> {
    (0..ROOMS).map(|n| Room::new(&format!("room-{n}")).expect("a room")).collect()
}

/// Who takes part, and in what.
struct Cast<'a> {
    options: &'a Options,
    system: &'a System,
    recorder: &'a Recorder,
    stage: Stage,
    rooms: Vec<Room>,
}

impl Cast<'_> {
    fn publishers(&self) -> JoinSet<()> {
        let mut publishers = JoinSet::new();
        for number in 0..self.options.publishers {
            let (seed, rooms) = (stream(self.options.seed, 1, number), self.rooms.clone());
            let plan = publisher::Plan { number, seed, edges: self.system.edges(), rooms, pace: self.options.pace };
            let scribe = self.recorder.scribe(&format!("publisher-{number}"));
            publishers.spawn(Publisher::new(plan, scribe, self.stage.clone()).run());
        }
        publishers
    }

    fn subscribers(&self) -> JoinSet<()> {
        let late = self.options.duration.mul_f64(0.6);
        let styles = [
            (1, Style::Steady),
            (2, Style::Steady),
            (3, Style::Flap),
            (4, Style::Flap),
            (5, Style::Sleep(MIN_AGE)),
            (6, Style::Sleep(MIN_AGE)),
            (7, Style::Slow),
            (8, Style::Late(late)),
            (9, Style::Tab),
            (9, Style::Tab),
            (10, Style::Crash),
            (12, Style::Crash),
        ];
        let mut subscribers = JoinSet::new();
        for (at, (number, style)) in styles.into_iter().enumerate() {
            if self.options.steady && style != Style::Steady {
                continue;
            }
            let own_cursors = number % 2 == 0 && style != Style::Tab;
            let mut plan = self.plan(number, style, own_cursors);
            // Two tabs have a device in common, and no choices.
            plan.seed = stream(self.options.seed, 2, at);
            self.enter(&mut subscribers, &at.to_string(), plan);
        }
        subscribers
    }

    fn enter(&self, subscribers: &mut JoinSet<()>, name: &str, plan: subscriber::Plan) {
        let scribe = self.recorder.scribe(&format!("subscriber-{name}"));
        subscribers.spawn(Subscriber::new(plan, scribe, self.stage.clone()).run());
    }

    fn plan(&self, number: usize, style: Style, own_cursors: bool) -> subscriber::Plan {
        let format = if number.is_multiple_of(3) { Format::MsgPack } else { Format::Json };
        let (user, device) = (format!("reader{number}"), "screen".to_owned());
        let identity = Identity { user, device, format, slow: style == Style::Slow };
        // Some follow everything, the others two rooms of three.
        let followed = |n: &usize| number % 4 == 1 || number == 99 || !(n + number).is_multiple_of(3);
        let rooms = (0..self.rooms.len()).filter(followed).map(|n| self.rooms[n].clone()).collect();
        let (seed, edges) = (stream(self.options.seed, 2, number), self.system.edges());
        subscriber::Plan { seed, style, edges, rooms, identity, own_cursors }
    }
}

/// The seed of a participant: its own stream of choices, whatever the others do.
fn stream(seed: u64, kind: u64, number: usize) -> u64 {
    let place = kind.wrapping_mul(1_000).wrapping_add(number as u64 + 1);
    // The golden ratio in 64 bits: neighbours become strangers.
    seed.wrapping_add(place.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
