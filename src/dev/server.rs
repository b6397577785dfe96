//! A server of somebody else's making as a child that ends when we do, however we end.
//!
//! **Invariant:** a server that was started here is asked to stop when this process is gone: a shell
//! beside it waits for the end of a pipe that only we hold.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use tracing::{info, warn};

use crate::error::{Error, Kind, Result};

/// How long a server may take to stop in order before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often a process that isn't our child is looked at while it stops.
const POLL: Duration = Duration::from_millis(50);
/// Lines of a server's log that are told when it ends by itself.
const LOG_LINES: usize = 8;

/// Ends process `$1` by signal `$2` once standard input ends, and by force if that takes too long.
const GUARD: &str = r#"
cat >/dev/null
kill -"$2" "$1" 2>/dev/null || exit 0
for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.5; kill -0 "$1" 2>/dev/null || exit 0; done
kill -KILL "$1"
"#;

/// A running server.
pub(super) struct Server {
    name: &'static str,
    child: Child,
    pid: u32,
    signal: &'static str,
    log: PathBuf,
    guard: Child,
}

impl Server {
    /// Starts `command`, whose output goes to `log`, and which stops in order at `signal`.
    ///
    /// # Errors
    /// [`Kind::Config`] if it can't be started.
    pub(super) fn start(name: &'static str, mut command: Command, signal: &'static str, log: &Path) -> Result<Self> {
        let failed = |e: std::io::Error| Error::new(Kind::Config, format!("start {name}")).caused_by(e);
        let output = std::fs::File::create(log).map_err(|e| super::unusable(log, e))?;
        // A group of its own: Ctrl-C in the terminal is for us, who stop it when nobody needs it any more.
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone().map_err(failed)?).stderr(output);
        let child = command.spawn().map_err(failed)?;
        let pid = child.id().ok_or_else(|| Error::internal(format!("start {name}: it has no number")))?;
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "sh", &pid.to_string(), signal]).process_group(0);
        let guard = guard.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map_err(failed)?;
        info!(pid, "started {name}");
        Ok(Self { name, child, pid, signal, log: log.to_owned(), guard })
    }

    /// Waits until it has ended, which it shouldn't; the error says so with the end of its log.
    pub(super) async fn ended(&mut self) -> Error {
        let status = self.child.wait().await.map_or_else(|e| e.to_string(), |status| status.to_string());
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n  ");
        Error::new(Kind::Config, format!("keep {} running: it ended with {status}\n  {last}", self.name))
    }

    /// Asks it to stop and waits; ends it by force when it doesn't.
    pub(super) async fn stop(mut self) {
        send(self.signal, self.pid).await;
        if tokio::time::timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            warn!(pid = self.pid, "{} did not stop in {STOP_TIMEOUT:?} and is killed", self.name);
            let _ = self.child.kill().await;
        }
        info!("stopped {}", self.name);
        // Its work is done; left alone it would signal a number that may be another's by then.
        let _ = self.guard.kill().await;
    }
}

/// Ends a server that an earlier run left, if process `pid` is one: its command line holds all `words`.
pub(super) async fn end_stale(name: &str, pid: u32, words: &[&str], signal: &str) {
    let is_it = async || command_line(pid).await.is_some_and(|line| words.iter().all(|word| line.contains(word)));
    if !is_it().await {
        return;
    }
    warn!(pid, "an earlier run left {name}: stopping it");
    send(signal, pid).await;
    let waited = tokio::time::timeout(STOP_TIMEOUT, async {
        while is_it().await {
            tokio::time::sleep(POLL).await;
        }
    });
    if waited.await.is_err() {
        send("KILL", pid).await;
    }
}

/// The command line of any process; nothing if there is none of that number.
async fn command_line(pid: u32) -> Option<String> {
    let proc = Path::new("/proc");
    if proc.join("self").exists() {
        let line = std::fs::read(proc.join(pid.to_string()).join("cmdline")).ok()?;
        return Some(String::from_utf8_lossy(&line).replace('\0', " "));
    }
    let ps = Command::new("ps").args(["-o", "args=", "-p", &pid.to_string()]).output().await.ok()?;
    ps.status.success().then(|| String::from_utf8_lossy(&ps.stdout).into_owned())
}

async fn send(signal: &str, pid: u32) {
    // The shell's own `kill`: small systems have no other.
    let mut kill = Command::new("sh");
    let _ = kill.args(["-c", &format!("kill -{signal} {pid}")]).stderr(Stdio::null()).status().await;
}
