//! A library that is loaded before a process's own and lies to it: about the time of day, about how long
//! an fsync takes. Linux only; made by the C compiler that `scripts/setup` installs.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use super::redis::new_dir;

/// Variables for a process whose clock is `seconds` ahead, or behind if negative. Its monotonic clock is right.
pub fn skewed_clock(seconds: i64) -> [(&'static str, String); 2] {
    [("LD_PRELOAD", library().to_owned()), ("SKEW_S", seconds.to_string())]
}

/// Variables for a process none of whose fsyncs ends while this file is there, nor any write to a file that begins
/// after one: the disk hangs.
pub fn slow_fsync(while_there: &Path) -> [(&'static str, String); 2] {
    [("LD_PRELOAD", library().to_owned()), ("FSYNC_WHILE", while_there.display().to_string())]
}

fn library() -> &'static str {
    static LIBRARY: OnceLock<String> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let path = new_dir("preload").join("preload.so").display().to_string();
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/preload.c");
        let made = Command::new("cc").args(["-O1", "-shared", "-fPIC", "-o", &path, source]).output();
        let made = made.expect("run cc; scripts/test installs it");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        path
    })
}
