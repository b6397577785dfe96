//! The command line, run to its end.

use std::process::{Output, Stdio};

use serde_json::Value;

use super::{DEADLINE, Process};

/// What the program said, and how it ended.
pub struct Said {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// Its exit code.
    pub code: Option<i32>,
}

impl Said {
    /// Standard output as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}\n{}", self.out, self.err))
    }

    /// Standard output as a line of JSON each.
    pub fn json_lines(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Itself, if the command succeeded.
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        self
    }
}

/// Runs `millstream` with these arguments and these variables only.
pub async fn millstream(args: &[&str], env: &[(String, String)]) -> Said {
    let mut command = tokio::process::Command::new(Process::path("millstream"));
    command.args(args).stdin(Stdio::null()).env_clear().kill_on_drop(true);
    command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
    command.envs(env.iter().map(|(key, value)| (key, value)));
    let output = tokio::time::timeout(DEADLINE, command.output()).await;
    let Output { status, stdout, stderr } = output.expect("it ends in time").unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { out: text(stdout), err: text(stderr), code: status.code() }
}
