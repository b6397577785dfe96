//! What is asserted of any bytes at all: the fuzz targets call these functions, and so does
//! `tests/corpus.rs` with what they have found.

#![allow(dead_code, unreachable_pub, reason = "each fuzz target is one of them")]

mod frames;

use std::time::{Duration, SystemTime};

use millstream::callback;
use millstream::config::{LoadOptions, Process, Settings};
use millstream::error::Kind;
use millstream::model::{Entry, EntryId, EntryKind, Item, Room};
use millstream::protocol::{ServerFrame, Subprotocol, check_body, payload};
use serde_json::Value;

pub use frames::{frame_json, frame_msgpack};

/// What is fuzzed: takes any bytes, and panics when something that must hold does not.
pub type Target = fn(&[u8]);

/// Every target by its name, which is its folder in `tests/fuzz/corpus` as well.
pub const TARGETS: [(&str, Target); 5] = [
    ("frame_json", frame_json),
    ("frame_msgpack", frame_msgpack),
    ("envelope", envelope),
    ("settings", settings),
    ("retry_after", retry_after),
];

fn entry_of(kind: EntryKind, envelope: Vec<u8>) -> Entry {
    let room = Room::new("r").expect("it is a name");
    Entry { id: EntryId::new(1, 2), room, seq: 3, kind, envelope: envelope.into() }
}

/// An envelope as it comes out of the log: opened and closed again it is the same, and what can't be
/// opened or said is corrupt, never the end of the program.
pub fn envelope(data: &[u8]) {
    for kind in [EntryKind::Message, EntryKind::Event] {
        let entry = entry_of(kind, data.to_vec());
        let sayable = match entry.open() {
            Ok(item) => {
                assert_eq!(item.entry_kind(), kind);
                assert_eq!(Item::decode(kind, &item.encode()).expect("what was closed here can be opened"), item);
                let text = match item {
                    Item::Message(message) => Some(message.body),
                    Item::Event(event) => event.data,
                };
                text.is_none_or(|text| check_body(text, usize::MAX).is_ok_and(|compact| compact == text))
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt);
                for subprotocol in Subprotocol::ALL {
                    assert!(payload(subprotocol, &ServerFrame::Entry(&entry)).is_err());
                }
                continue;
            }
        };
        for subprotocol in Subprotocol::ALL {
            match (payload(subprotocol, &ServerFrame::Entry(&entry)), subprotocol) {
                (Ok(said), Subprotocol::Json) if sayable => {
                    let said: Value = serde_json::from_slice(&said).expect("a frame is JSON");
                    assert_eq!(said["seq"], 3);
                }
                (Ok(said), Subprotocol::MsgPack) => {
                    let said: Value = rmp_serde::from_slice(&said).expect("a frame is MessagePack");
                    assert_eq!(said["s"], 3);
                }
                (Ok(_), Subprotocol::Json) => {}
                (Err(error), _) => {
                    assert_eq!(error.kind(), Kind::Corrupt);
                    assert!(!sayable, "{error}");
                }
            }
        }
    }
}

/// What stands in every secret; it must stand nowhere else.
const SECRET: &str = "rumpelstilzchen-rumpelstilzchen-rumpelstilzchen";

/// Settings: parts divided by U+0000. The first is a file, others are `--set key=value` or `NAME=value`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.split('\0');
    let file = temporary_file();
    std::fs::write(&file, parts.next().unwrap_or_default()).expect("a temporary file can be written");
    let mut options = LoadOptions::new(Process::Tool);
    options.file = Some(file.clone());
    for part in parts {
        if let Some(set) = part.strip_prefix("--set ") {
            options.set.push(set.to_owned());
        } else if let Some((name, value)) = part.split_once('=')
            // A fuzzer is not to read whatever file it can spell.
            && !name.ends_with("_FILE")
        {
            options.environment.push((name.to_owned(), value.to_owned()));
        }
    }
    let processes = [Process::Edge, Process::Api, Process::Archive, Process::Replay, Process::Callback];
    let secret = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut with_secrets = options.clone();
    with_secrets.process = processes[data.len() % processes.len()];
    with_secrets.environment.extend([
        secret("MILLSTREAM__AUTH__HS256_SECRET", SECRET),
        secret("MILLSTREAM__API__KEY", SECRET),
        secret("REDIS_URL", &format!("redis://user:{SECRET}@localhost")),
        secret("DATABASE_URL", &format!("postgres://user:{SECRET}@localhost/db")),
    ]);
    let told = match Settings::load(&with_secrets) {
        Ok(loaded) => format!("{:?} {:?} {:?}", loaded.lines, loaded.warnings, loaded.settings),
        Err(mistakes) => {
            assert!(!mistakes.to_string().is_empty());
            format!("{mistakes} {mistakes:?}")
        }
    };
    assert!(!told.contains(SECRET), "a secret is told: {told}");
    if let Ok(loaded) = Settings::load(&options) {
        assert_same_when_written(&file, &loaded.lines);
    }
    let _ = std::fs::remove_file(&file);
}

/// Settings that are printed, put into a file and read again are the same.
fn assert_same_when_written(file: &std::path::Path, lines: &[millstream::config::Line]) {
    let open = |line: &&millstream::config::Line| {
        !line.key.starts_with("callback.endpoints") && !line.value.as_deref().is_some_and(|value| value.contains("***"))
    };
    let written = |lines: &[millstream::config::Line]| -> Vec<String> {
        let set = lines.iter().filter(open).filter_map(|line| Some(format!("{} = {}", line.key, line.value.as_ref()?)));
        set.collect()
    };
    let before = written(lines);
    std::fs::write(file, before.join("\n")).expect("a temporary file can be written");
    let options = LoadOptions { file: Some(file.to_owned()), ..LoadOptions::new(Process::Tool) };
    let again = Settings::load(&options).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    // Secrets were left out, so there may be more lines that are not set; those that are say the same.
    let after = written(&again.lines);
    assert!(before.iter().all(|line| after.contains(line)), "{before:#?} became {after:#?}");
}

/// A file of this thread alone.
fn temporary_file() -> std::path::PathBuf {
    let name = format!("millstream-fuzz-{}-{:?}.toml", std::process::id(), std::thread::current().id());
    std::env::temp_dir().join(name)
}

/// `Retry-After` of an endpoint, and perhaps its `Date` after U+0000.
pub fn retry_after(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (header, date) = text.split_once('\0').map_or((text, None), |(header, date)| (header, Some(date)));
    // Source: RFC 9110, 5.6.7, whose example it is.
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    let wait = callback::retry_after(header, date, now);
    let digits = header.trim();
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let asked = digits.parse().map_or(Duration::MAX, Duration::from_secs);
        let wait = wait.expect("seconds are understood");
        assert!(wait == asked || wait < asked && wait.as_secs() > 90 * 365 * 86_400, "{asked:?} became {wait:?}");
    }
    if let Some(wait) = wait {
        // It can be reckoned with, whatever the clock says.
        assert!(now.checked_add(wait).is_some() && SystemTime::now().checked_add(wait).is_some());
        // A date is a wait by one of the two clocks; without theirs it can only be shorter.
        assert!(callback::retry_after(header, None, now).is_none_or(|alone| alone <= wait));
    }
}
