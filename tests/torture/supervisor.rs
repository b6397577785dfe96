//! The whole system as processes, with a breakable proxy on every hop.
//!
//! **Invariant:** a process that ends without having been ended is started again, as any supervisor
//! would, and that it ended is in the history.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millstream::verify::{Fact, Signal, Wants};

use crate::endpoint::Endpoint;
use crate::recorder::{Recorder, Scribe};
use crate::run::Options;
use crate::support::{
    API_KEY, CALLBACK_SECRET, DEADLINE, Database, Postgres, Process, Proxy, Redis, SECRET, free_port, new_dir,
    slow_fsync, unique, wait_until,
};

/// More than workers, so that two of them share.
pub(crate) const PARTITIONS: u16 = 6;
/// How long a process may take to stop.
pub(crate) const GRACE: Duration = Duration::from_secs(8);
/// What the log keeps.
pub(crate) const MIN_AGE: Duration = Duration::from_secs(6);
/// How long a worker's lease lives.
pub(crate) const LEASE_TTL: Duration = Duration::from_secs(2);

/// Short times, so that everything that is to happen happens within a minute, and small limits, so
/// that everything that is to overflow does.
const SETTINGS: &[(&str, &str)] = &[
    ("MILLSTREAM__GROUP__LEASE_TTL", "2s"),
    ("MILLSTREAM__GROUP__LEASE_INTERVAL", "300ms"),
    // Entries that are in hand when a worker is killed were not the reason.
    ("MILLSTREAM__GROUP__MAX_DELIVERIES", "1000"),
    ("MILLSTREAM__ARCHIVE__MAX_DELAY", "200ms"),
    ("MILLSTREAM__RETENTION__MIN_AGE", "6s"),
    ("MILLSTREAM__RETENTION__INTERVAL", "1s"),
    ("MILLSTREAM__REPLAY__SCAN_ENTRIES", "1000"),
    ("MILLSTREAM__REPLAY__PAGE_ENTRIES", "50"),
    ("MILLSTREAM__DATABASE__CONNECT_TIMEOUT", "2s"),
    ("MILLSTREAM__DATABASE__STATEMENT_TIMEOUT", "5s"),
    ("MILLSTREAM__EDGE__FIRST_JOIN_LAST", "start"),
    ("MILLSTREAM__EDGE__CURSOR_INTERVAL", "1s"),
    ("MILLSTREAM__EDGE__HEARTBEAT", "3s"),
    ("MILLSTREAM__EDGE__STALL_TIMEOUT", "6s"),
    ("MILLSTREAM__EDGE__LEAVE_DEBOUNCE", "1s"),
    ("MILLSTREAM__LIMITS__MESSAGE_BYTES", "20000"),
    ("MILLSTREAM__LIMITS__BODY_BYTES", "16000"),
    ("MILLSTREAM__EDGE__OUTBOX_BYTES", "20000"),
    ("MILLSTREAM__EDGE__CATCH_UP_ENTRIES", "100"),
    ("MILLSTREAM__EDGE__JOIN_TIMEOUT", "6s"),
    ("MILLSTREAM__EDGE__RECONNECT_SPREAD", "500ms"),
    ("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0"),
    ("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "0"),
    ("MILLSTREAM__LIMITS__CONNECTIONS_PER_USER", "0"),
    ("MILLSTREAM__CALLBACK__ALLOW_PRIVATE", "true"),
    // No fault of the endpoint may lead to the dead letters: they are owed everything.
    ("MILLSTREAM__CALLBACK__MAX_RETRIES", "10000"),
    ("MILLSTREAM__CALLBACK__RETRY_DELAY", "100ms"),
    ("MILLSTREAM__CALLBACK__RETRY_DELAY_MAX", "1s"),
    ("MILLSTREAM__CALLBACK__TIMEOUT", "2s"),
    ("MILLSTREAM__SHUTDOWN__GRACE", "8s"),
];

/// Name and program of each process.
pub(crate) const PROCESSES: &[(&str, &str)] = &[
    ("archive-1", "archive"),
    ("archive-2", "archive"),
    ("replay-1", "replay"),
    ("replay-2", "replay"),
    ("callback-1", "callback"),
    ("callback-2", "callback"),
    ("edge-1", "edge"),
    ("edge-2", "edge"),
];

/// A way from one part to another, over all processes of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hop {
    ClientEdge,
    EdgeRedis,
    ArchiveRedis,
    ReplayRedis,
    CallbackRedis,
    ArchivePostgres,
    ReplayPostgres,
    CallbackEndpoint,
}

impl Hop {
    pub(crate) const ALL: [Self; 8] = [
        Self::ClientEdge,
        Self::EdgeRedis,
        Self::ArchiveRedis,
        Self::ReplayRedis,
        Self::CallbackRedis,
        Self::ArchivePostgres,
        Self::ReplayPostgres,
        Self::CallbackEndpoint,
    ];

    fn to_redis(program: &str) -> Self {
        match program {
            "edge" => Self::EdgeRedis,
            "archive" => Self::ArchiveRedis,
            "replay" => Self::ReplayRedis,
            _ => Self::CallbackRedis,
        }
    }

    fn to_postgres(program: &str) -> Option<Self> {
        match program {
            "archive" => Some(Self::ArchivePostgres),
            "replay" => Some(Self::ReplayPostgres),
            _ => None,
        }
    }
}

/// A process of ours, over all its lives.
struct Slot {
    program: &'static str,
    env: Vec<(String, String)>,
    metrics: String,
    process: Mutex<Process>,
    /// Whether it is meant to run.
    wanted: AtomicBool,
    /// Whether it has always been the same process: nothing is missing in its metrics.
    whole: AtomicBool,
    /// What its earlier lives wrote to standard error.
    logs: Mutex<Vec<String>>,
}

/// Servers, proxies, endpoints and processes.
pub(crate) struct System {
    pub(crate) redis: Redis,
    /// While this file is there, the disk of Redis hangs, if it is one that can.
    pub(crate) hanging: PathBuf,
    pub(crate) postgres: Postgres,
    pub(crate) database: Database,
    pub(crate) prefix: String,
    /// By group.
    pub(crate) endpoints: Vec<(&'static str, Endpoint)>,
    proxies: Vec<(Hop, Proxy)>,
    processes: BTreeMap<&'static str, Slot>,
    env: Vec<(String, String)>,
    scribe: Scribe,
}

impl System {
    /// Starts everything and waits until it is ready.
    pub(crate) async fn start(recorder: &Recorder, options: &Options) -> Self {
        let hanging = new_dir("disk").join("hangs");
        let redis = match options.appendfsync {
            None => Redis::start(&[]).await,
            Some(when) => Redis::start_in(&["--appendfsync", when], &slow_fsync(&hanging)).await,
        };
        let postgres = Postgres::start().await;
        let database = postgres.database().await;
        let mut endpoints = Vec::new();
        let mut proxies = Vec::new();
        let prefix = unique("mill");
        let mut env: Vec<(String, String)> =
            SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        for (key, value) in [
            ("REDIS_URL", redis.url()),
            ("DATABASE_URL", database.url.clone()),
            ("MILLSTREAM__REDIS__PREFIX", prefix.clone()),
            ("MILLSTREAM__REDIS__PARTITIONS", PARTITIONS.to_string()),
            ("MILLSTREAM__AUTH__HS256_SECRET", SECRET.into()),
            ("MILLSTREAM__API__KEY", API_KEY.into()),
            ("MILLSTREAM__CALLBACK__SECRET", CALLBACK_SECRET.into()),
        ] {
            env.push((key.to_owned(), value));
        }
        for (n, (variable, group, wants)) in [
            ("DATA_CALLBACK_URL", "callback:data", Wants::Everything),
            ("ROOM_EVENT_CALLBACK_URL", "callback:room-events", Wants::Events),
        ]
        .into_iter()
        .enumerate()
        {
            let scribe = recorder.scribe(&format!("endpoint-{}", n + 1));
            let endpoint = Endpoint::start(scribe, group, wants, options.seed.wrapping_add(n as u64)).await;
            let proxy = Proxy::start(endpoint.addr()).await;
            env.push((variable.to_owned(), format!("http://{}/hook", proxy.addr())));
            proxies.push((Hop::CallbackEndpoint, proxy));
            endpoints.push((group, endpoint));
        }
        env.extend(options.env.iter().cloned());
        let (processes, scribe) = (BTreeMap::new(), recorder.scribe("supervisor"));
        let mut system =
            Self { redis, hanging, postgres, database, prefix, endpoints, proxies, processes, env, scribe };
        for (name, program) in PROCESSES {
            system.add(name, program).await;
        }
        wait_until("all processes are ready", async || system.is_ready()).await;
        system
    }

    async fn add(&mut self, name: &'static str, program: &'static str) {
        let mut env = self.env.clone();
        let to_redis = Proxy::start(self.redis.addr()).await;
        env.push(("REDIS_URL".into(), format!("redis://{}", to_redis.addr())));
        self.proxies.push((Hop::to_redis(program), to_redis));
        if let Some(hop) = Hop::to_postgres(program) {
            let to_postgres = Proxy::start(self.postgres.addr()).await;
            let url = self.database.url.replace(&self.postgres.addr(), to_postgres.addr());
            env.push(("DATABASE_URL".into(), url));
            self.proxies.push((hop, to_postgres));
        }
        if program == "edge" {
            let listen = format!("127.0.0.1:{}", free_port());
            self.proxies.push((Hop::ClientEdge, Proxy::narrow(listen.clone()).await));
            env.push(("MILLSTREAM__EDGE__LISTEN".into(), listen));
        }
        let metrics = format!("127.0.0.1:{}", free_port());
        env.push(("MILLSTREAM__METRICS__LISTEN".into(), metrics.clone()));
        let process = Mutex::new(Process::spawn(program, &[], &env));
        let (wanted, whole, logs) = (AtomicBool::new(true), AtomicBool::new(true), Mutex::default());
        self.processes.insert(name, Slot { program, env, metrics, process, wanted, whole, logs });
    }

    /// Where clients connect.
    pub(crate) fn edges(&self) -> Vec<String> {
        self.proxies_of(Hop::ClientEdge).map(|proxy| proxy.addr().to_owned()).collect()
    }

    /// The proxies of a hop.
    pub(crate) fn proxies_of(&self, hop: Hop) -> impl Iterator<Item = &Proxy> {
        self.proxies.iter().filter(move |(of, _)| *of == hop).map(|(_, proxy)| proxy)
    }

    /// Settings of a program that is started beside the processes, with no proxy in its way.
    pub(crate) fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Where the metrics of each process are.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = (&'static str, &str, bool)> {
        self.processes.iter().map(|(name, slot)| (*name, slot.metrics.as_str(), slot.whole.load(Ordering::SeqCst)))
    }

    /// Ends a process as a power cut would.
    pub(crate) fn kill9(&self, name: &str) {
        let slot = self.slot(name);
        slot.wanted.store(false, Ordering::SeqCst);
        let begin = Instant::now();
        slot.process.lock().unwrap().kill9();
        self.note_exit(name, Signal::Kill, begin, None);
    }

    /// Asks a process to stop and waits until it has; longer than it may take, and it is killed.
    pub(crate) async fn terminate(&self, name: &str) {
        let slot = self.slot(name);
        slot.wanted.store(false, Ordering::SeqCst);
        let begin = Instant::now();
        slot.process.lock().unwrap().signal("TERM");
        let ended = || slot.process.lock().unwrap().try_status();
        while ended().is_none() && begin.elapsed() < GRACE + DEADLINE / 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let status = ended().and_then(|status| status.code());
        self.note_exit(name, Signal::Term, begin, status);
        slot.process.lock().unwrap().kill9();
    }

    /// `STOP` or `CONT`.
    pub(crate) fn signal(&self, name: &str, signal: &str) {
        self.slot(name).process.lock().unwrap().signal(signal);
    }

    /// Starts a process that was ended again; it becomes ready when it can.
    pub(crate) fn start_again(&self, name: &str) {
        let slot = self.slot(name);
        let mut process = slot.process.lock().unwrap();
        process.kill9();
        slot.logs.lock().unwrap().push(process.stderr());
        slot.whole.store(false, Ordering::SeqCst);
        *process = Process::spawn(slot.program, &[], &slot.env);
        slot.wanted.store(true, Ordering::SeqCst);
    }

    /// Starts again what has ended by itself. A process may end so while it cannot start, for its
    /// server is away; later is a defect.
    pub(crate) fn keep(&self) {
        for (name, slot) in &self.processes {
            let (status, was_ready, last) = {
                let process = slot.process.lock().unwrap();
                let last = process.stderr().lines().last().unwrap_or_default().to_owned();
                (process.try_status(), process.stdout().contains("ready "), last)
            };
            if let Some(status) = status.filter(|_| slot.wanted.load(Ordering::SeqCst)) {
                let kind = if was_ready { "unexpected-exit" } else { "failed-start" };
                let text = format!("{status}: {last}");
                self.scribe.note(Fact::LogText { process: (*name).into(), kind: kind.into(), text });
                self.start_again(name);
            }
        }
    }

    /// Whether all processes are ready.
    pub(crate) fn is_ready(&self) -> bool {
        self.processes.values().all(|slot| slot.process.lock().unwrap().stdout().contains("ready "))
    }

    /// All that a process wrote to standard error, in all its lives.
    pub(crate) fn log(&self, name: &str) -> String {
        let slot = self.slot(name);
        slot.logs.lock().unwrap().concat() + &slot.process.lock().unwrap().stderr()
    }

    fn note_exit(&self, name: &str, asked: Signal, begin: Instant, status: Option<i32>) {
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (took_ms, grace_ms) = (ms(begin.elapsed()), ms(GRACE));
        self.scribe.note(Fact::Exited { process: name.into(), asked, took_ms, grace_ms, status });
    }

    fn slot(&self, name: &str) -> &Slot {
        self.processes.get(name).unwrap_or_else(|| panic!("no process {name}"))
    }
}
