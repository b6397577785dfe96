//! A real Postgres, and a database of its own for each test.

use std::ffi::OsString;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::OnceCell;

use super::redis::new_dir;
use super::{DEADLINE, free_port, reaper, unique};

/// What makes a server that only tests use faster; none of it changes an answer.
const OPTIONS: &[&str] = &["fsync=off", "full_page_writes=off", "max_connections=300", "log_min_messages=warning"];

/// A Postgres server with a port and a folder of its own.
pub struct Postgres {
    port: u16,
    dir: PathBuf,
    small_disk: bool,
    server: Mutex<Option<Child>>,
    frozen: Mutex<Vec<u32>>,
}

/// A database on a [`Postgres`].
pub struct Database {
    /// `postgres://…`
    pub url: String,
    /// Connections to it.
    pub pool: PgPool,
}

impl Postgres {
    /// The server that the tests of a program share: own database per test, and nobody breaks it.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A server for one test alone.
    pub async fn start() -> Self {
        Self::start_in(false).await
    }

    /// A server for one test alone that has a disk of a few MiB beside its own: [`Postgres::small_disk`].
    ///
    /// # Errors
    /// Says why this machine doesn't let us mount one.
    pub async fn start_with_small_disk() -> Result<Self, String> {
        let tried = on_small_disk(&std::env::temp_dir(), None, &Command::new("true")).output();
        match tried {
            Ok(tried) if tried.status.success() => Ok(Self::start_in(true).await),
            Ok(tried) => Err(String::from_utf8_lossy(&tried.stderr).into_owned()),
            Err(error) => Err(format!("run unshare: {error}")),
        }
    }

    /// The small disk, as the server sees it and as we do: it is mounted for the server alone, and gone with it.
    pub fn small_disk(&self) -> (PathBuf, PathBuf) {
        assert!(self.small_disk, "it was started without one");
        let (path, pid) = (self.dir.join("small"), self.pid());
        let ours = Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").unwrap());
        (path, ours)
    }

    async fn start_in(small_disk: bool) -> Self {
        let dir = new_dir("postgres");
        if let Some((uid, gid)) = unprivileged() {
            chown(&dir, Some(uid), Some(gid)).expect("root may give a folder away");
        }
        let created = program("initdb")
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "-D"])
            .arg(dir.join("data"))
            .output()
            .expect("initdb runs");
        assert!(created.status.success(), "initdb failed: {}", String::from_utf8_lossy(&created.stderr));
        let mut last = String::new();
        for _ in 0..5 {
            let (server, frozen) = (Mutex::new(None), Mutex::default());
            let postgres = Self { port: free_port(), dir: dir.clone(), small_disk, server, frozen };
            match postgres.launch().await {
                Ok(()) => return postgres,
                Err(error) => last = error,
            }
        }
        panic!("postgres did not start: {last}");
    }

    /// A new, empty database.
    pub async fn database(&self) -> Database {
        let name = unique("t");
        let admin = PgPoolOptions::new().max_connections(1).connect(&self.url("postgres")).await.unwrap();
        let create = format!("CREATE DATABASE {name}");
        sqlx::query(sqlx::AssertSqlSafe(create)).execute(&admin).await.unwrap();
        admin.close().await;
        let url = self.url(&name);
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        Database { url, pool }
    }

    /// `postgres://…` of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@{}/{database}", self.addr())
    }

    /// `127.0.0.1:port`
    pub fn addr(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it at once, with its children (SIGQUIT, "immediate"): the next start recovers from the WAL.
    pub fn kill(&self) {
        self.end("QUIT");
    }

    /// Ends the postmaster alone, as the kernel does when memory runs out. Its children notice by themselves.
    pub fn kill9(&self) {
        self.end("KILL");
    }

    fn pid(&self) -> u32 {
        self.server.lock().unwrap().as_ref().expect("the server runs").id()
    }

    /// Ends it in order, cutting connections (SIGINT, "fast").
    pub fn stop(&self) {
        self.end("INT");
    }

    /// Freezes it with all its children: connections stay, nothing answers, new ones aren't greeted.
    pub fn freeze(&self) {
        let pid = self.pid();
        // First: frozen, it makes no more children.
        reaper::signal(pid, "STOP");
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        for child in children.split_whitespace().filter_map(|child| child.parse().ok()) {
            // Frozen, it wouldn't notice that the server is gone.
            reaper::ends_with_us(child, "KILL");
            reaper::signal(child, "STOP");
            self.frozen.lock().unwrap().push(child);
        }
        assert!(!self.frozen.lock().unwrap().is_empty(), "a server has children");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        for child in self.frozen.lock().unwrap().drain(..) {
            reaper::signal(child, "CONT");
            reaper::has_ended(child);
        }
        reaper::signal(self.pid(), "CONT");
    }

    /// Starts it again on the same port with the same data.
    pub async fn start_again(&self) {
        let begin = Instant::now();
        // Children of a postmaster that was killed alone keep the next one out until they have noticed.
        while let Err(error) = self.launch().await {
            let clash = error.contains("shared memory") || error.contains("lock file");
            assert!(clash && begin.elapsed() < DEADLINE, "postgres does not start again: {error}");
            tokio::time::sleep(super::POLL).await;
        }
    }

    fn end(&self, signal: &str) {
        for child in self.frozen.lock().unwrap().drain(..) {
            reaper::signal(child, "KILL");
            reaper::has_ended(child);
        }
        if let Some(mut server) = self.server.lock().unwrap().take() {
            reaper::signal(server.id(), signal);
            reaper::signal(server.id(), "CONT");
            server.wait().expect("a child can be waited for");
            reaper::has_ended(server.id());
        }
    }

    async fn launch(&self) -> Result<(), String> {
        let log = std::fs::File::create(self.dir.join("server.log")).map_err(|e| e.to_string())?;
        let mut command = program("postgres");
        command.arg("-D").arg(self.dir.join("data"));
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-k"]).arg(&self.dir);
        for option in OPTIONS {
            command.args(["-c", option]);
        }
        if self.small_disk {
            let small = self.dir.join("small");
            std::fs::create_dir_all(&small).map_err(|e| e.to_string())?;
            command = on_small_disk(&small, unprivileged(), &command);
        }
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let server = server.map_err(|e| format!("run postgres: {e}"))?;
        reaper::ends_with_us(server.id(), "QUIT");
        *self.server.lock().unwrap() = Some(server);
        let begin = Instant::now();
        while begin.elapsed() < DEADLINE {
            let ended = self.server.lock().unwrap().as_mut().is_none_or(|s| s.try_wait().ok().flatten().is_some());
            if ended {
                self.end("QUIT");
                return Err(std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default());
            }
            let url = self.url("postgres");
            if let Ok(pool) = PgPoolOptions::new().max_connections(1).connect(&url).await {
                pool.close().await;
                return Ok(());
            }
            tokio::time::sleep(super::POLL).await;
        }
        Err("no answer in time".into())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.end("QUIT");
    }
}

/// A program of Postgres, under an account that it accepts.
fn program(name: &str) -> Command {
    let path = find(name);
    match unprivileged() {
        None => Command::new(path),
        Some((uid, gid)) => {
            let mut command = Command::new("setpriv");
            command.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".into()]).arg(path);
            // The folder of the checkout may be closed to that account.
            command.current_dir("/");
            command
        }
    }
}

/// `command` with a disk of a few MiB at `place` that only it and its children see.
fn on_small_disk(place: &Path, owner: Option<(u32, u32)>, command: &Command) -> Command {
    let (uid, gid) = owner.unwrap_or_default();
    let mount = format!("mount -t tmpfs -o size=4m,mode=0700,uid={uid},gid={gid} small \"$0\" && exec \"$@\"");
    let mut wrapped = Command::new("unshare");
    wrapped.args(["--mount", "sh", "-c", &mount]).arg(place).arg(command.get_program()).args(command.get_args());
    wrapped.current_dir("/");
    wrapped
}

/// In `PATH`, or where Debian and Homebrew put what isn't in it; the newest version first.
fn find(name: &str) -> PathBuf {
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (root, tail) in [("/usr/lib/postgresql", "bin"), ("/opt/homebrew/opt", "bin"), ("/usr/local/opt", "bin")] {
        let mut versions: Vec<PathBuf> = std::fs::read_dir(root)
            .map(|entries| entries.flatten().map(|entry| entry.path().join(tail)).collect())
            .unwrap_or_default();
        versions.sort_by_key(|place| version_of(place));
        places.extend(versions.into_iter().rev());
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; scripts/test installs it"))
}

fn version_of(place: &Path) -> u32 {
    let digits: String = place.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Postgres refuses to run as root: then the account for it, by number.
fn unprivileged() -> Option<(u32, u32)> {
    // The owner of a new file is who we are.
    let me = tempfile::NamedTempFile::new().ok()?.as_file().metadata().ok()?.uid();
    if me != 0 {
        return None;
    }
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |name: &str| {
        let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("there is an account `postgres` or `nobody`"))
}
