//! Ends what tests have started, even when the test program is killed.
//!
//! One shell per test program reads from a pipe what has to be ended. When the program is gone, for
//! whatever reason, the pipe closes; the shell then kills the processes and removes the folders.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

const SCRIPT: &str = r#"
pids= dirs=
while read -r what arg; do
  case $what in
    pid) pids="$pids $arg" ;;
    gone) kept=; for pid in $pids; do [ "${pid#*:}" = "$arg" ] || kept="$kept $pid"; done; pids=$kept ;;
    dir) dirs="$dirs $arg" ;;
  esac
done
for pid in $pids; do kill -"${pid%:*}" "${pid#*:}"; kill -CONT "${pid#*:}"; done 2>/dev/null
sleep 0.3
for pid in $pids; do kill -KILL "${pid#*:}"; done 2>/dev/null
for dir in $dirs; do rm -rf "$dir"; done
"#;

/// A process that has to end with us; `signal` is its fastest way to end with all its children.
pub(super) fn ends_with_us(pid: u32, signal: &str) {
    tell(&format!("pid {signal}:{pid}"));
}

/// A process that has ended: its number may be another's soon.
pub(super) fn has_ended(pid: u32) {
    tell(&format!("gone {pid}"));
}

/// A folder that goes with us.
pub(super) fn removed_with_us(dir: &Path) {
    tell(&format!("dir {}", dir.display()));
}

/// Longest wait for every thread of a process to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// Sends a signal by name (`KILL`, `STOP`, `CONT`, `TERM` …); a process that is gone is no error. After `STOP`, what is
/// sent to the process is not read before `CONT`.
pub(super) fn signal(pid: u32, signal: &str) {
    // The shell's own `kill`: small systems have no other.
    let _ = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).stderr(Stdio::null()).status();
    // Its threads stop when they next look, which on a busy machine is after somebody has sent them something.
    let begin = Instant::now();
    while signal == "STOP" && !is_stopped(pid) && begin.elapsed() < STOP_WAIT {
        std::thread::yield_now();
    }
}

/// Whether no thread of a process runs, as Linux says (proc(5)), where it does.
fn is_stopped(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // After the name, which may hold anything, comes the state.
        stat.rsplit_once(") ").is_none_or(|(_, state)| state.starts_with(['T', 't', 'Z', 'X']))
    })
}

fn tell(line: &str) {
    // The shell is kept and never waited for: it ends after us.
    static SHELL: OnceLock<Mutex<(ChildStdin, Child)>> = OnceLock::new();
    let shell = SHELL.get_or_init(|| {
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: Ctrl-C in the terminal must not end it before its work.
            .process_group(0)
            .spawn()
            .expect("sh starts");
        let pipe = shell.stdin.take().expect("its input is a pipe");
        Mutex::new((pipe, shell))
    });
    let (pipe, _) = &mut *shell.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    writeln!(pipe, "{line}").and_then(|()| pipe.flush()).expect("the reaper reads");
}
