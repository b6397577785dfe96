//! What the figures were taken on, and when.

use std::process::Command;

/// Processor, memory, system and servers, in a sentence.
pub(crate) fn description() -> String {
    let processor = line("/proc/cpuinfo", "model name");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kib: u64 = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    let said = |program: &str, args: &[&str]| said(program, args).unwrap_or_else(|| format!("{program} (unknown)"));
    format!(
        "Machine: {processor}, {cores} cores in all, {} GiB; {}. Servers on the same machine: {}; {}. {}.",
        kib.div_ceil(1 << 20),
        said("uname", &["-sr"]),
        said("redis-server", &["--version"]).split(" sha=").next().unwrap_or_default(),
        said("psql", &["--version"]).replace("psql (PostgreSQL)", "PostgreSQL"),
        said("rustc", &["--version"]),
    )
}

/// Day and commit, marked if anything but documents was changed since.
pub(crate) fn moment() -> String {
    let day = said("date", &["-u", "+%F"]).unwrap_or_default();
    let commit = said("git", &["describe", "--always", "--exclude=*"]).unwrap_or_default();
    // The row before this one is in its document already.
    let changed = said("git", &["status", "--porcelain", "--", ":!docs"]).is_none_or(|files| !files.is_empty());
    format!("{day}, {commit}{}", if changed { ", changed" } else { "" })
}

fn line(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
    value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

fn said(program: &str, args: &[&str]) -> Option<String> {
    let out = Command::new(program).args(args).output().ok().filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&out.stdout).trim().to_owned())
}
