//! A real Redis.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use tokio::sync::OnceCell;

use super::{DEADLINE, Reply, free_port, reaper, resp};

/// What `durability = "fsync"` asks of Redis.
const DURABLE: &[&str] =
    &["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"];

/// A Redis server with a port and a folder of its own.
pub struct Redis {
    port: u16,
    dir: PathBuf,
    options: Vec<String>,
    env: Vec<(&'static str, String)>,
    server: Mutex<Option<Child>>,
}

impl Redis {
    /// The server that the tests of a program share: own prefix per test, and nobody breaks it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::start(&[])).await
    }

    /// A server for one test alone. `options` come after those of the right durability, as on the
    /// command line: `["--appendfsync", "everysec"]`.
    pub async fn start(options: &[&str]) -> Self {
        Self::start_in(options, &[]).await
    }

    /// As [`Redis::start`], with these variables: [`slow_fsync`](super::slow_fsync).
    pub async fn start_in(options: &[&str], env: &[(&'static str, String)]) -> Self {
        Self::start_with(new_dir("redis"), options, env).await
    }

    /// As [`Redis::start`], with its data in `dir`.
    pub async fn start_at(dir: PathBuf, options: &[&str]) -> Self {
        Self::start_with(dir, options, &[]).await
    }

    async fn start_with(dir: PathBuf, options: &[&str], env: &[(&'static str, String)]) -> Self {
        let options: Vec<String> = DURABLE.iter().chain(options).map(|o| (*o).to_owned()).collect();
        let mut last = String::new();
        // A free port may be taken by somebody else before the server has it.
        for _ in 0..5 {
            let port = free_port();
            let redis =
                Self { port, dir: dir.clone(), options: options.clone(), env: env.to_vec(), server: Mutex::new(None) };
            match redis.launch().await {
                Ok(()) => return redis,
                Err(error) => last = error,
            }
        }
        panic!("redis-server did not start: {last}");
    }

    /// One that somebody else has started on this port, to speak with.
    pub fn at(port: u16) -> Self {
        Self { port, dir: PathBuf::new(), options: Vec::new(), env: Vec::new(), server: Mutex::new(None) }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://…`
    pub fn url(&self) -> String {
        format!("redis://{}", self.addr())
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its folder: the append-only files are below it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One command over a connection of its own: `["XLEN", "mill:{3}:log"]`.
    pub async fn command<A: AsRef<[u8]>>(&self, args: impl IntoIterator<Item = A>) -> Reply {
        self.try_command(args).await.expect("Redis answers")
    }

    /// As [`Redis::command`], for a server that may be gone. One that is a node of a cluster says where
    /// else a key is, and there the command goes.
    pub async fn try_command<A: AsRef<[u8]>>(&self, args: impl IntoIterator<Item = A>) -> std::io::Result<Reply> {
        let args: Vec<A> = args.into_iter().collect();
        let args: Vec<&[u8]> = args.iter().map(AsRef::as_ref).collect();
        let mut addr = self.addr();
        loop {
            let reply = tokio::time::timeout(DEADLINE, resp::command(&addr, &args)).await??;
            match &reply {
                Reply::Error(error) if error.starts_with("MOVED ") => {
                    addr = error.rsplit(' ').next().expect("MOVED slot addr").to_owned();
                }
                _ => return Ok(reply),
            }
        }
    }

    /// Ends it as a power cut would.
    pub fn kill9(&self) {
        self.end("KILL");
    }

    /// Ends it in order.
    pub fn stop(&self) {
        self.end("TERM");
    }

    /// Freezes it: connections stay, nothing answers.
    pub fn freeze(&self) {
        reaper::signal(self.pid(), "STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        reaper::signal(self.pid(), "CONT");
    }

    /// Starts it again on the same port with the same data.
    pub async fn start_again(&self) {
        self.launch().await.expect("redis-server starts again");
    }

    /// As [`Redis::start_again`], without waiting until it serves.
    pub fn spawn_again(&self) {
        self.spawn().expect("redis-server can be run");
    }

    /// Whether it has ended, by itself or otherwise.
    pub fn has_ended(&self) -> bool {
        self.server.lock().unwrap().as_mut().is_none_or(|s| s.try_wait().ok().flatten().is_some())
    }

    /// Removes everything it has stored; only while it is stopped.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(&self.dir).and_then(|()| std::fs::create_dir(&self.dir)).expect("its folder is ours");
    }

    /// The number of its process.
    pub fn pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("the server runs").id()
    }

    fn end(&self, signal: &str) {
        if let Some(mut server) = self.server.lock().unwrap().take() {
            reaper::signal(server.id(), signal);
            reaper::signal(server.id(), "CONT");
            server.wait().expect("a child can be waited for");
            reaper::has_ended(server.id());
        }
    }

    fn spawn(&self) -> Result<(), String> {
        // Another server that speaks the same, such as Valkey: docs/testing.md says how.
        let program = std::env::var_os("MILLSTREAM_TEST_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let server = Command::new(program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"])
            .arg(&self.dir)
            .args(["--logfile", "server.log", "--daemonize", "no", "--databases", "1"])
            .args(&self.options)
            .envs(self.env.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| format!("run redis-server ({e}); scripts/test installs it"))?;
        reaper::ends_with_us(server.id(), "KILL");
        *self.server.lock().unwrap() = Some(server);
        Ok(())
    }

    async fn launch(&self) -> Result<(), String> {
        self.spawn()?;
        let begin = Instant::now();
        while begin.elapsed() < DEADLINE {
            // Another server on that port must not be taken for ours.
            if self.has_ended() {
                self.end("KILL");
                return Err(std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default());
            }
            if let Ok(Reply::Bytes(_)) = resp::command(&self.addr(), &[b"PING"]).await {
                return Ok(());
            }
            tokio::time::sleep(super::POLL).await;
        }
        Err("no answer in time".into())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end("KILL");
    }
}

/// A new folder that goes with the test program.
pub fn new_dir(what: &str) -> PathBuf {
    let dir = tempfile::Builder::new().prefix(&format!("millstream-{what}-")).tempdir_in("/tmp").unwrap().keep();
    reaper::removed_with_us(&dir);
    dir
}
