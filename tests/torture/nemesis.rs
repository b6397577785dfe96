//! Who breaks things: a script first, so that nothing that has to happen is left to chance, then
//! every few seconds a random set of faults; a quarter of the time none.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::verify::Fact;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep, sleep_until};

use crate::endpoint::Mood;
use crate::fault::Fault;
use crate::recorder::Scribe;
use crate::supervisor::{Hop, LEASE_TTL, PROCESSES, System};
use crate::support::{Mode, Reply};

/// Faults of one moment at most.
const FAULTS_MAX: usize = 3;

/// Faults that begin together and end together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// How long all is well before.
    pub(crate) peace: Duration,
    /// What is broken.
    pub(crate) faults: Vec<Fault>,
    /// For how long.
    pub(crate) hold: Duration,
}

impl Step {
    pub(crate) fn new(peace_ms: u64, faults: &[Fault], hold_ms: u64) -> Self {
        let (peace, hold) = (Duration::from_millis(peace_ms), Duration::from_millis(hold_ms));
        Self { peace, faults: faults.to_vec(), hold }
    }
}

/// What a nemesis does.
#[derive(Debug, Clone)]
pub(crate) struct Plot {
    /// First these.
    pub(crate) script: Vec<Step>,
    /// Then what chance chooses, until the time is over.
    pub(crate) random: bool,
}

impl Plot {
    /// What has to happen in every run, and then chance: about 25 s for the first part.
    pub(crate) fn everything() -> Self {
        let of_all = |hop, mode| Fault::Hop(hop, None, mode);
        let script = vec![
            // A publish is carried out and not answered: the edge repeats it, the cid makes it harmless.
            Step::new(3_000, &[of_all(Hop::EdgeRedis, Mode::LoseReplyTo("EVALSHA"))], 1_200),
            // The owner of half of the partitions is gone for longer than its leases.
            Step::new(1_500, &[Fault::Kill("archive-1")], 3_500),
            // Batches are committed and nobody hears so.
            Step::new(1_500, &[of_all(Hop::ArchivePostgres, Mode::LoseReplyTo("COMMIT"))], 1_500),
            Step::new(500, &[of_all(Hop::CallbackEndpoint, Mode::LoseReplyTo("POST"))], 500),
            Step::new(500, &[Fault::Endpoint(0, Mood::Failing), Fault::Endpoint(1, Mood::Flaky)], 800),
            Step::new(500, &[Fault::Kill("edge-1"), Fault::Kill("callback-1")], 2_500),
            Step::new(500, &[of_all(Hop::ClientEdge, Mode::DropReplies)], 1_000),
            Step::new(500, &[Fault::RedisKill], 500),
        ];
        Self { script, random: true }
    }
}

/// The names of the faults that are on now.
pub(crate) type Board = Arc<Mutex<Vec<String>>>;

/// The nemesis.
pub(crate) struct Nemesis<'a> {
    pub(crate) system: &'a System,
    pub(crate) scribe: Scribe,
    pub(crate) board: Board,
    pub(crate) rng: StdRng,
}

impl<'a> Nemesis<'a> {
    pub(crate) fn new(system: &'a System, scribe: Scribe, board: Board, seed: u64) -> Self {
        Self { system, scribe, board, rng: StdRng::seed_from_u64(seed) }
    }

    /// Breaks and mends until `until`; then nothing is broken. A script with nothing after it is played to its end.
    pub(crate) async fn run(mut self, plot: Plot, until: Instant) {
        let is_over = || plot.random && Instant::now() >= until;
        for step in plot.script {
            sleep(step.peace).await;
            if !is_over() {
                self.step(step).await;
            }
        }
        while plot.random && !is_over() {
            let step = self.choose();
            sleep_until(until.min(Instant::now() + step.peace)).await;
            if !is_over() {
                self.step(step).await;
            }
        }
        sleep_until(until).await;
    }

    async fn step(&mut self, step: Step) {
        let before = self.owners().await;
        for fault in &step.faults {
            self.note(fault, true);
            fault.begin(self.system).await;
        }
        sleep(step.hold).await;
        self.note_take_over(&step.faults, before).await;
        for fault in &step.faults {
            fault.end(self.system).await;
            self.note(fault, false);
        }
        self.note_lost_replies(&step.faults);
    }

    fn note(&self, fault: &Fault, on: bool) {
        self.scribe.note(Fact::Fault { name: fault.to_string().into(), on });
        let mut board = self.board.lock().unwrap();
        board.retain(|name| *name != fault.to_string());
        if on {
            board.push(fault.to_string());
        }
    }

    /// Who owns the partitions in the archive's group; nothing where nobody does or Redis is away.
    async fn owners(&self) -> Vec<Option<String>> {
        let mut owners = Vec::new();
        for p in 0..crate::supervisor::PARTITIONS {
            let key = format!("{}:lease:archive:{{{p}}}", self.system.prefix);
            let asked = self.system.redis.try_command(["GET", &key]);
            let owner = match tokio::time::timeout(Duration::from_millis(500), asked).await {
                Ok(Ok(Reply::Bytes(owner))) => Some(String::from_utf8_lossy(&owner).into_owned()),
                _ => None,
            };
            owners.push(owner);
        }
        owners
    }

    /// A partition of a worker that was killed has another owner while it is still dead.
    async fn note_take_over(&self, faults: &[Fault], before: Vec<Option<String>>) {
        if !faults.iter().any(|fault| matches!(fault, Fault::Kill(process) if process.starts_with("archive"))) {
            return;
        }
        let after = self.owners().await;
        if before.iter().zip(&after).any(|(before, after)| before.is_some() && after.is_some() && before != after) {
            self.happened("take-over");
        }
    }

    fn note_lost_replies(&self, faults: &[Fault]) {
        let lost = |hop| self.system.proxies_of(hop).map(crate::support::Proxy::lost_replies).sum::<u64>() > 0;
        for fault in faults {
            match fault {
                Fault::Hop(Hop::ArchivePostgres, _, Mode::LoseReplyTo("COMMIT")) if lost(Hop::ArchivePostgres) => {
                    self.happened("unclear-commit");
                }
                Fault::Hop(Hop::EdgeRedis, _, Mode::LoseReplyTo(_)) if lost(Hop::EdgeRedis) => {
                    self.happened("lost-reply");
                }
                _ => {}
            }
        }
    }

    fn happened(&self, what: &str) {
        self.scribe.note(Fact::Happened { what: what.into() });
    }

    fn choose(&mut self) -> Step {
        let peace = Duration::from_millis(self.rng.random_range(500..2_500));
        // Shorter than a lease, and longer; at times longer than an edge may be silent before it counts as dead.
        let leases = if self.rng.random_ratio(1, 12) { 3.0..9.0 } else { 0.2..2.2 };
        let hold = LEASE_TTL.mul_f64(self.rng.random_range(leases));
        let mut faults: Vec<Fault> = Vec::new();
        if !self.rng.random_ratio(1, 4) {
            let mut subjects = HashSet::new();
            for _ in 0..self.rng.random_range(1..=FAULTS_MAX) {
                let fault = self.fault(hold);
                if subjects.insert(fault.subject()) {
                    faults.push(fault);
                }
            }
        }
        Step { peace, faults, hold }
    }

    fn fault(&mut self, hold: Duration) -> Fault {
        match self.rng.random_range(0..100) {
            0..45 => {
                let hop = *Hop::ALL.choose(&mut self.rng).expect("there are hops");
                let which = [None, Some(0), Some(1)].choose(&mut self.rng).copied().flatten();
                self.mode(hop).map_or(Fault::Cut(hop), |mode| Fault::Hop(hop, which, mode))
            }
            45..73 => {
                let (process, _) = *PROCESSES.choose(&mut self.rng).expect("there are processes");
                match self.rng.random_range(0..5) {
                    0..2 => Fault::Kill(process),
                    2..4 => Fault::Freeze(process),
                    _ => Fault::Terminate(process),
                }
            }
            73..85 => match self.rng.random_range(0..7) {
                0..2 => Fault::RedisKill,
                2 => Fault::RedisFreeze,
                3 => Fault::RedisDisconnect,
                4 => Fault::RedisPause(hold),
                5 => Fault::RedisForgetScripts,
                _ => Fault::RedisRewrite,
            },
            85..92 => match self.rng.random_range(0..3) {
                0 => Fault::PostgresKill,
                1 => Fault::PostgresFreeze,
                _ => Fault::PostgresDisconnect,
            },
            _ => {
                let moods = [Mood::Failing, Mood::Overloaded, Mood::Hanging, Mood::Flaky];
                let mood = *moods.choose(&mut self.rng).expect("there are moods");
                Fault::Endpoint(self.rng.random_range(0..self.system.endpoints.len()), mood)
            }
        }
    }

    /// How a hop is broken; nothing: its connections are reset once.
    fn mode(&mut self, hop: Hop) -> Option<Mode> {
        let after = match hop {
            // Frames of clients are masked: whatever comes last.
            Hop::ClientEdge => return Some(Mode::DropReplies),
            Hop::EdgeRedis => ["EVALSHA", "XADD", "HSET"].choose(&mut self.rng).copied().unwrap_or_default(),
            Hop::ArchiveRedis | Hop::ReplayRedis | Hop::CallbackRedis => {
                ["EVALSHA", "XREADGROUP", "XADD"].choose(&mut self.rng).copied().unwrap_or_default()
            }
            Hop::ArchivePostgres => "COMMIT",
            Hop::ReplayPostgres => "SELECT",
            Hop::CallbackEndpoint => "POST",
        };
        match self.rng.random_range(0..10) {
            0 => Some(Mode::Latency(Duration::from_millis(self.rng.random_range(5..400)))),
            1 => Some(Mode::Bandwidth(self.rng.random_range(2_000..60_000))),
            2 => Some(Mode::Slices),
            3 => Some(Mode::Blackhole),
            4 => Some(Mode::HoldReplies),
            5 => Some(Mode::Down),
            6 => Some(Mode::DropReplies),
            7 | 8 => Some(Mode::LoseReplyTo(after)),
            _ => None,
        }
    }
}
