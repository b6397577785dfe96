//! The command line, as a person and a script use it: the real program on real servers.

#![allow(clippy::unwrap_used, reason = "in a test, what can't be had ends it")]

#[path = "../support/mod.rs"]
mod support;

mod alone;
mod on_the_log;
mod replaying;

use std::process::{Output, Stdio};

use serde_json::Value;
use support::Process;

/// What the program said, and how it ended.
struct Said {
    out: String,
    err: String,
    code: Option<i32>,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Itself, if the command succeeded.
    fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `millstream` with these arguments and these variables only.
async fn millstream(args: &[&str], env: &[(String, String)]) -> Said {
    let mut command = tokio::process::Command::new(Process::path("millstream"));
    command.args(args).stdin(Stdio::null()).env_clear().kill_on_drop(true);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(env.iter().map(|(key, value)| (key, value)));
    let output = tokio::time::timeout(support::DEADLINE, command.output()).await;
    let Output { status, stdout, stderr } = output.expect("it ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { out: text(stdout), err: text(stderr), code: status.code() }
}
