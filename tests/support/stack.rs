//! Redis, Postgres, edges and workers: the whole system under a prefix of its own.

use std::collections::BTreeMap;

use millstream::model::{EntryId, Item, Partitions};
use serde_json::Value;

use super::{
    API_KEY, CALLBACK_SECRET, Client, Database, Format, Postgres, Process, Redis, SECRET, eventually, free_port, token,
    unique,
};

/// How many partitions the log of a test has: several, but few enough to start fast.
const PARTITIONS: u16 = 4;

/// What a [`Stack`] is made of.
pub struct StackBuilder {
    edges: usize,
    workers: Vec<&'static str>,
    env: Vec<(String, String)>,
    redis: Option<Redis>,
    redis_url: Option<String>,
    postgres: Option<Postgres>,
}

/// One entry of a room as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogEntry {
    /// Its id, `ms-n`.
    pub id: String,
    /// Its seq.
    pub seq: u64,
    /// The cid of a message; nothing for an event.
    pub cid: Option<String>,
    /// The body of a message, the name of an event.
    pub body: Value,
}

enum Server<T: 'static> {
    Shared(&'static T),
    Own(T),
}

impl<T> Server<T> {
    fn get(&self) -> &T {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

/// The whole system.
pub struct Stack {
    redis: Server<Redis>,
    postgres: Server<Postgres>,
    /// Its database.
    pub database: Database,
    /// First part of every key in Redis.
    pub prefix: String,
    env: Vec<(String, String)>,
    processes: BTreeMap<String, Running>,
}

struct Running {
    process: Process,
    program: String,
    env: Vec<(String, String)>,
    addr: String,
    metrics: String,
}

impl StackBuilder {
    /// How many edges; they are called `edge`, `edge2`, `edge3` …
    #[must_use]
    pub fn edges(mut self, count: usize) -> Self {
        self.edges = count;
        self
    }

    /// Which workers: some of `archive`, `replay`, `callback`, `api`. Without: archive and replay.
    #[must_use]
    pub fn workers(mut self, workers: &[&'static str]) -> Self {
        self.workers = workers.to_vec();
        self
    }

    /// A callback worker too, and everything goes to this URL.
    #[must_use]
    pub fn data_callback(mut self, url: &str) -> Self {
        self.workers.push("callback");
        self.env("DATA_CALLBACK_URL", url)
    }

    /// A setting for all processes.
    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.push((key.to_owned(), value.into()));
        self
    }

    /// A Redis of its own, which the test may break.
    #[must_use]
    pub fn redis(mut self, redis: Redis) -> Self {
        self.redis = Some(redis);
        self
    }

    /// The way to Redis, if it goes through a proxy.
    #[must_use]
    pub fn redis_url(mut self, url: impl Into<String>) -> Self {
        self.redis_url = Some(url.into());
        self
    }

    /// A Postgres of its own, which the test may break.
    #[must_use]
    pub fn postgres(mut self, postgres: Postgres) -> Self {
        self.postgres = Some(postgres);
        self
    }

    /// Starts everything and waits until each part is ready.
    pub async fn start(self) -> Stack {
        let redis = match self.redis {
            Some(redis) => Server::Own(redis),
            None => Server::Shared(Redis::shared().await),
        };
        let postgres = match self.postgres {
            Some(postgres) => Server::Own(postgres),
            None => Server::Shared(Postgres::shared().await),
        };
        let database = postgres.get().database().await;
        let prefix = unique("mill");
        let mut env: Vec<(String, String)> = [
            ("REDIS_URL", self.redis_url.unwrap_or_else(|| redis.get().url())),
            ("DATABASE_URL", database.url.clone()),
            ("MILLSTREAM__REDIS__PREFIX", prefix.clone()),
            ("MILLSTREAM__REDIS__PARTITIONS", PARTITIONS.to_string()),
            ("MILLSTREAM__AUTH__HS256_SECRET", SECRET.into()),
            ("MILLSTREAM__API__KEY", API_KEY.into()),
            ("MILLSTREAM__CALLBACK__SECRET", CALLBACK_SECRET.into()),
            ("MILLSTREAM__CALLBACK__ALLOW_PRIVATE", "true".into()),
            ("MILLSTREAM__ARCHIVE__MAX_DELAY", "200ms".into()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        env.extend(self.env);
        let mut stack = Stack { redis, postgres, database, prefix, env, processes: BTreeMap::new() };
        // Workers first: the archive initialises what the edge needs.
        for program in self.workers {
            stack.add(program, program, &[]);
        }
        for n in 1..=self.edges {
            let name = if n == 1 { "edge".to_owned() } else { format!("edge{n}") };
            stack.add(&name, "edge", &[]);
        }
        for running in stack.processes.values() {
            running.process.ready().await;
        }
        stack
    }
}

impl Stack {
    /// One edge, an archive and a replay worker on shared servers.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// Something else than that.
    pub fn builder() -> StackBuilder {
        StackBuilder {
            edges: 1,
            workers: vec!["archive", "replay"],
            env: Vec::new(),
            redis: None,
            redis_url: None,
            postgres: None,
        }
    }

    /// Starts one more process under `name`, without waiting until it is ready.
    pub fn add(&mut self, name: &str, program: &str, more: &[(&str, &str)]) {
        self.add_with(name, program, more, None);
    }

    /// As [`Stack::add`], with at most so many open files.
    pub fn add_with_files(&mut self, name: &str, program: &str, more: &[(&str, &str)], files: u32) {
        self.add_with(name, program, more, Some(files));
    }

    fn add_with(&mut self, name: &str, program: &str, more: &[(&str, &str)], files: Option<u32>) {
        let (addr, metrics) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let mut env = self.env.clone();
        env.push(("MILLSTREAM__METRICS__LISTEN".into(), metrics.clone()));
        env.push(("MILLSTREAM__EDGE__LISTEN".into(), addr.clone()));
        env.push(("MILLSTREAM__API__LISTEN".into(), addr.clone()));
        env.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let process = match files {
            None => Process::spawn(program, &[], &env),
            Some(files) => Process::spawn_with_files(program, &env, files),
        };
        let program = program.to_owned();
        self.processes.insert(name.to_owned(), Running { process, program, env, addr, metrics });
    }

    /// A process by its name: `edge`, `edge2`, `archive`, `replay`, `callback`, `api`.
    pub fn process(&self, name: &str) -> &Process {
        &self.running(name).process
    }

    /// Asserts that none of its processes has panicked so far.
    pub fn assert_no_panic(&self) {
        for (name, running) in &self.processes {
            let err = running.process.stderr();
            let panic = err.lines().find(|line| line.contains("panicked at"));
            assert_eq!(panic, None, "{name} panicked");
        }
    }

    /// Asserts that its processes are those that were started, and still run.
    pub fn assert_all_run(&self) {
        for (name, running) in &self.processes {
            assert_eq!(running.process.try_status(), None, "{name} has ended");
        }
    }

    /// The main address of `edge`, `edge2` or `api`; it stays over restarts.
    pub fn addr(&self, name: &str) -> &str {
        &self.running(name).addr
    }

    /// Where `/metrics` of a process is: `127.0.0.1:port`.
    pub fn metrics_addr(&self, name: &str) -> &str {
        &self.running(name).metrics
    }

    /// The value of a metric of a process, with its labels as Prometheus writes them; 0 if it isn't there.
    pub async fn metric(&self, name: &str, metric: &str) -> f64 {
        let (_, text) = super::get(self.metrics_addr(name), "/metrics", &[]).await;
        let line = text.lines().find_map(|line| line.strip_prefix(metric)?.trim().parse().ok());
        line.unwrap_or(0.0)
    }

    /// The processes' settings, for a program that is started beside them.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }

    /// Ends a process as a power cut would.
    pub fn kill9(&self, name: &str) {
        self.process(name).kill9();
    }

    /// Starts a process that has ended again, with the same settings and addresses, and waits until it is ready.
    pub async fn start_again(&mut self, name: &str) {
        let running = self.processes.get_mut(name).expect("a process of the stack");
        running.process.kill9();
        running.process = Process::spawn(&running.program, &[], &running.env);
        running.process.ready().await;
    }

    /// Its Redis.
    pub fn redis(&self) -> &Redis {
        self.redis.get()
    }

    /// Its Postgres.
    pub fn postgres(&self) -> &Postgres {
        self.postgres.get()
    }

    /// A user's connection in JSON to the first edge, which may read and write everywhere; after `hello`.
    pub async fn client(&self, user: &str, device: &str) -> Client {
        self.client_at("edge", Format::Json, user, device).await
    }

    /// A user's connection to an edge, which may read and write everywhere; after `hello`.
    pub async fn client_at(&self, edge: &str, format: Format, user: &str, device: &str) -> Client {
        Client::hello_at(self.addr(edge), format, &token(user, &[("*", "rw")]), device).await
    }

    /// The key of a partition: `key_of("chat", "log")` is `mill…:{p}:log`.
    pub fn key_of(&self, room: &str, name: &str) -> String {
        let partitions = Partitions::new(PARTITIONS).unwrap();
        format!("{}:{{{}}}:{name}", self.prefix, partitions.of(room))
    }

    /// The entries of a room in the log, in order.
    pub async fn log(&self, room: &str) -> Vec<LogEntry> {
        let entries = self.redis().command(["XRANGE", &self.key_of(room, "log"), "-", "+"]).await.list();
        entries.into_iter().filter_map(|entry| log_entry(entry, room)).collect()
    }

    /// The messages of a room in the log: seq and cid, in order.
    pub async fn logged(&self, room: &str) -> Vec<(u64, String)> {
        self.log(room).await.into_iter().filter_map(|entry| Some((entry.seq, entry.cid?))).collect()
    }

    /// The messages of a room in Postgres: seq and cid, in order.
    pub async fn archived(&self, room: &str) -> Vec<(u64, String)> {
        let rows: Vec<(i64, String)> =
            sqlx::query_as("SELECT seq::bigint, cid FROM messages WHERE room = $1 ORDER BY ms, n")
                .bind(room)
                .fetch_all(&self.database.pool)
                .await
                .unwrap_or_default();
        rows.into_iter().map(|(seq, cid)| (seq.unsigned_abs(), cid)).collect()
    }

    /// Waits until `count` messages of a room are in Postgres; then all of them.
    pub async fn archived_when(&self, room: &str, count: usize) -> Vec<(u64, String)> {
        eventually(&format!("{count} rows of {room}"), async || {
            let rows = self.archived(room).await;
            (rows.len() >= count).then_some(rows)
        })
        .await
    }

    fn running(&self, name: &str) -> &Running {
        self.processes.get(name).unwrap_or_else(|| panic!("no process {name} in the stack"))
    }
}

fn log_entry(entry: super::Reply, room: &str) -> Option<LogEntry> {
    let mut parts = entry.list().into_iter();
    let id = parts.next()?.text();
    let values = parts.next()?.list();
    let field = |name: &str| values.chunks(2).find(|pair| pair[0].text() == name).map(|pair| pair[1].clone());
    if field("r")?.text() != room {
        return None;
    }
    let entry = millstream::model::Entry {
        id: id.parse::<EntryId>().unwrap(),
        room: millstream::model::Room::new(room).unwrap(),
        seq: field("s")?.text().parse().unwrap(),
        kind: if field("k")?.text() == "m" {
            millstream::model::EntryKind::Message
        } else {
            millstream::model::EntryKind::Event
        },
        envelope: field("e")?.bytes().into(),
    };
    let (cid, body) = match entry.open().unwrap() {
        Item::Message(message) => (Some(message.cid.to_owned()), serde_json::from_str(message.body).unwrap()),
        Item::Event(event) => (None, event.event.into()),
    };
    Some(LogEntry { id, seq: entry.seq, cid, body })
}
