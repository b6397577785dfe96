//! What fuzzing has found, as plain tests: every file of `tests/fuzz/corpus` through the function that the
//! fuzzer of its folder calls. `scripts/fuzz` looks for more.

#[path = "fuzz/targets/mod.rs"]
mod targets;

use std::path::{Path, PathBuf};

/// Files of all corpora together, and their bytes: enough to reach every branch, little enough to be read.
const FILES_MAX: usize = 200;
const BYTES_MAX: u64 = 300 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

fn files(target: &str) -> Vec<PathBuf> {
    let folder = corpus().join(target);
    let read = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("read {}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = read.map(|entry| entry.expect("a folder can be read").path()).collect();
    files.sort();
    files
}

fn run(target: &str) {
    let found = targets::TARGETS.iter().find(|(name, _)| *name == target).map(|(_, run)| run);
    let run = found.expect("it is a target");
    let files = files(target);
    assert!(files.len() > 5, "{target} has {} files", files.len());
    for file in files {
        let data = std::fs::read(&file).expect("a file of the corpus can be read");
        // The test's output names the file that it ends with.
        println!("{}", file.display());
        run(&data);
    }
}

#[test]
fn frames_in_json() {
    run("frame_json");
}

#[test]
fn frames_in_msgpack() {
    run("frame_msgpack");
}

#[test]
fn envelopes() {
    run("envelope");
}

#[test]
fn settings() {
    run("settings");
}

#[test]
fn retry_after() {
    run("retry_after");
}

/// Every folder is a target's and the other way round, so that nothing is left out.
#[test]
fn every_corpus_has_its_target_and_is_small() {
    let read = std::fs::read_dir(corpus()).expect("the corpora can be read");
    let mut folders: Vec<String> =
        read.map(|entry| entry.expect("a folder can be read").file_name().to_string_lossy().into_owned()).collect();
    folders.sort();
    let mut names: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    let all: Vec<PathBuf> = names.iter().flat_map(|name| files(name)).collect();
    let bytes: u64 = all.iter().map(|file| file.metadata().expect("it is a file").len()).sum();
    assert!(all.len() <= FILES_MAX && bytes <= BYTES_MAX, "{} files of {bytes} bytes", all.len());
}
