//! Our programs as processes.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::{DEADLINE, POLL, reaper};

/// A running program of ours.
pub struct Process {
    name: String,
    child: Mutex<Child>,
    out: Arc<Mutex<String>>,
    err: Arc<Mutex<String>>,
}

impl Process {
    /// The path of a program: `millstream`, `edge`, `api`, `archive`, `replay`, `callback`.
    pub fn path(program: &str) -> &'static str {
        match program {
            "millstream" => env!("CARGO_BIN_EXE_millstream"),
            "edge" => env!("CARGO_BIN_EXE_millstream-edge"),
            "api" => env!("CARGO_BIN_EXE_millstream-api"),
            "archive" => env!("CARGO_BIN_EXE_millstream-archive"),
            "replay" => env!("CARGO_BIN_EXE_millstream-replay"),
            "callback" => env!("CARGO_BIN_EXE_millstream-callback"),
            other => panic!("no program {other}"),
        }
    }

    /// Starts a program with these variables and arguments, and nothing of our own settings.
    pub fn spawn<K: AsRef<str>, V: AsRef<str>>(program: &str, args: &[&str], env: &[(K, V)]) -> Self {
        Self::spawn_as(Command::new(Self::path(program)), program, args, env)
    }

    /// As [`Process::spawn`], with at most so many open files.
    pub fn spawn_with_files<V: AsRef<str>>(program: &str, env: &[(V, V)], files: u32) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("ulimit -n {files} && exec \"$0\""), Self::path(program)]);
        Self::spawn_as(command, program, &[], env)
    }

    fn spawn_as<K: AsRef<str>, V: AsRef<str>>(
        mut command: Command,
        program: &str,
        args: &[&str],
        env: &[(K, V)],
    ) -> Self {
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env_clear();
        for kept in ["PATH", "HOME", "TMPDIR", "LANG", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        for (key, value) in env {
            command.env(key.as_ref(), value.as_ref());
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {program}: {e}"));
        reaper::ends_with_us(child.id(), "KILL");
        let out = capture(child.stdout.take().expect("it is a pipe"));
        let err = capture(child.stderr.take().expect("it is a pipe"));
        Self { name: program.to_owned(), child: Mutex::new(child), out, err }
    }

    /// Waits for its line `ready …`; the words after `ready`.
    pub async fn ready(&self) -> Vec<String> {
        let begin = Instant::now();
        loop {
            let line = self.stdout().lines().find(|line| line.starts_with("ready ")).map(str::to_owned);
            if let Some(line) = line {
                return line.split_whitespace().skip(1).map(str::to_owned).collect();
            }
            if let Some(status) = self.try_status() {
                panic!("{} ended with {status} before it was ready:\n{}{}", self.name, self.stdout(), self.stderr());
            }
            let waited = begin.elapsed();
            assert!(waited < DEADLINE, "{} was not ready in {waited:?}:\n{}", self.name, self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// The address in its line `ready <name> <addr>`.
    pub async fn addr(&self) -> String {
        self.ready().await.get(1).cloned().expect("ready <name> <addr>")
    }

    /// Ends it as a power cut would, and waits.
    pub fn kill9(&self) {
        let mut child = self.child.lock().unwrap();
        let _ = child.kill();
        let _ = child.wait();
        reaper::has_ended(child.id());
    }

    /// Sends a signal by name: `TERM`, `STOP`, `CONT`, `INT`.
    pub fn signal(&self, name: &str) {
        if self.try_status().is_none() {
            reaper::signal(self.pid(), name);
        }
    }

    /// Asks it to stop and waits until it has; its status.
    pub async fn stop(&self) -> ExitStatus {
        self.signal("TERM");
        self.status().await
    }

    /// Waits until it has ended; its status.
    pub async fn status(&self) -> ExitStatus {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.try_status() {
                return status;
            }
            assert!(begin.elapsed() < DEADLINE, "{} did not end:\n{}", self.name, self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    /// Its status, if it has ended.
    pub fn try_status(&self) -> Option<ExitStatus> {
        let mut child = self.child.lock().unwrap();
        let status = child.try_wait().expect("a child can be asked");
        if status.is_some() {
            reaper::has_ended(child.id());
        }
        status
    }

    /// Its number.
    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> String {
        self.err.lock().unwrap().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // The test's own output is the place where somebody looks.
            eprintln!("--- last lines of {} ---", self.name);
            let err = self.stderr();
            let lines: Vec<&str> = err.lines().collect();
            lines.iter().skip(lines.len().saturating_sub(40)).for_each(|line| eprintln!("{line}"));
        }
        self.kill9();
    }
}

fn capture(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let into = text.clone();
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    });
    text
}
