//! The map of the house, checked: who imports whom, which door is whose, how long a file is.
//!
//! The ranks are read from the table in `src/lib.rs`, so that what is read and what is checked are one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Longest file of the project.
const FILE_LINES_MAX: usize = 400;
/// Longest program: parse, build, run, exit.
const BIN_LINES_MAX: usize = 40;

/// Outside libraries and the modules that may name them.
const DOORS: &[(&str, &[&str])] = &[
    ("fred", &["stream"]),
    ("sqlx", &["store"]),
    // `service` answers health checks; `cli`, `dev` and `bench` are clients.
    ("tokio_tungstenite", &["edge", "cli", "dev", "bench"]),
    ("hyper", &["edge", "service", "api", "callback"]),
    ("hyper_util", &["edge", "service", "api", "callback"]),
    ("http_body_util", &["edge", "service", "callback"]),
    ("hyper_rustls", &["callback"]),
    ("axum", &["api", "service"]),
];

#[test]
fn a_module_imports_only_from_a_lower_rank() {
    let ranks = ranks();
    let mut wrong = Vec::new();
    for file in sources() {
        let module = file.module();
        let rank = ranks[module.as_str()];
        for other in file.imports(&ranks) {
            if other != module && ranks[&other] >= rank {
                wrong.push(format!("{} ({rank}) imports {other} ({})", file.name, ranks[&other]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_outside_library_is_named_only_behind_its_door() {
    let mut wrong = Vec::new();
    for file in sources() {
        let words = words(&file.code);
        for (library, doors) in DOORS {
            let named = words.windows(2).any(|pair| pair[0] == *library && pair[1] == "::");
            if named && !doors.contains(&file.module().as_str()) {
                wrong.push(format!("{} names {library}, which is behind {doors:?}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_of_ranks_names_every_module() {
    let ranks = ranks();
    let lib = read(&root().join("src/lib.rs"));
    let declared: Vec<&str> = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(declared.len() > 10, "found only {declared:?}");
    for module in &declared {
        assert!(ranks.contains_key(*module), "{module} is not in the table of src/lib.rs");
    }
    for module in ranks.keys() {
        assert!(declared.contains(&module.as_str()), "{module} is in the table, but is no module");
    }
    for file in sources() {
        assert!(ranks.contains_key(&file.module()), "{} is of no module in the table", file.name);
    }
}

#[test]
fn no_file_is_too_long() {
    let mut wrong = Vec::new();
    for folder in ["src", "tests", "benches"] {
        for path in rust_files(&root().join(folder)) {
            let bin = path.parent().is_some_and(|parent| parent.ends_with("src/bin"));
            let (lines, most) = (read(&path).lines().count(), if bin { BIN_LINES_MAX } else { FILE_LINES_MAX });
            if lines > most {
                wrong.push(format!("{} has {lines} lines, {most} are allowed", name(&path)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_checks_see_what_they_look_for() {
    let code = "use crate::{a::X, b::{self, crate_like}, c};\nfn f() { crate::d::g(); crate::Error::new() }";
    let found = paths_from("crate", &words(code));
    assert_eq!(found, ["a", "b", "c", "d", "Error"]);
    let code = "// use crate::a;\nlet t = \"crate::b\"; /* crate::c */ let c = '\"'; crate::d\n#[cfg(test)]\nmod tests { use crate::e; }";
    assert_eq!(paths_from("crate", &words(&without_tests(&without_text(code)))), ["d"]);
    assert_eq!(test_modules("#[cfg(test)]\nmod tests;\nmod real;"), ["tests"]);
}

/// A file of the library, without comments, strings and tests.
struct Source {
    name: String,
    code: String,
}

impl Source {
    /// The top module that the file belongs to.
    fn module(&self) -> String {
        let path = self.name.trim_start_matches("src/");
        path.split('/').next().unwrap_or(path).trim_end_matches(".rs").to_owned()
    }

    /// The top modules that it names.
    fn imports(&self, ranks: &BTreeMap<String, u32>) -> Vec<String> {
        let words = words(&self.code);
        let mut found = paths_from("crate", &words);
        let deep = self.name.matches('/').count();
        if deep == 1 || (deep == 2 && self.name.ends_with("/mod.rs")) {
            // From a top module, `super` is the crate.
            let outer = self.code.lines().filter(|line| line.starts_with("use super::"));
            outer.for_each(|line| found.extend(paths_from("super", &self::words(line))));
        }
        // `crate::Error` and `crate::Result` are shown at the top, and live in `error`.
        let found = found.into_iter().map(|n| if n == "Error" || n == "Result" { "error".into() } else { n });
        found.filter(|name| ranks.contains_key(name)).collect()
    }
}

/// All files of the library but its root and the programs, which may name everything.
fn sources() -> Vec<Source> {
    let all = rust_files(&root().join("src"));
    let tests: Vec<PathBuf> = all.iter().flat_map(|path| test_files(path)).collect();
    let ours = |path: &&PathBuf| {
        let name = name(path);
        name != "src/lib.rs" && !name.starts_with("src/bin/") && !tests.iter().any(|test| path.starts_with(test))
    };
    let source = |path: &PathBuf| Source { name: name(path), code: without_tests(&without_text(&read(path))) };
    all.iter().filter(ours).map(source).collect()
}

/// Files that `#[cfg(test)] mod name;` in `path` stands for.
fn test_files(path: &Path) -> Vec<PathBuf> {
    let stem = path.file_stem().unwrap_or_default();
    let parent = path.parent().unwrap_or(path);
    let folder = if stem == "mod" || stem == "lib" { parent.to_owned() } else { parent.join(stem) };
    let modules = test_modules(&without_text(&read(path)));
    modules.into_iter().flat_map(|module| [folder.join(&module), folder.join(format!("{module}.rs"))]).collect()
}

fn test_modules(code: &str) -> Vec<String> {
    let after = code.split("#[cfg(test)]").skip(1);
    after
        .filter_map(|rest| rest.trim_start().strip_prefix("mod ")?.split_once(';'))
        .filter_map(|(name, _)| {
            let name = name.trim();
            name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| name.to_owned())
        })
        .collect()
}

/// Ranks by module, from the table in `src/lib.rs`.
fn ranks() -> BTreeMap<String, u32> {
    let lib = read(&root().join("src/lib.rs"));
    let mut ranks = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! | ")) {
        let mut cells = line.split(" | ");
        let (Some(Ok(rank)), Some(modules)) = (cells.next().map(str::parse), cells.next()) else { continue };
        for module in modules.split(", ") {
            ranks.insert(module.trim_matches(|c| "[`]".contains(c)).to_owned(), rank);
        }
    }
    ranks
}

/// The first names of paths that begin with `root::`, groups opened.
fn paths_from(root: &str, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for at in 0..words.len() {
        // `$crate` in a macro and a field named `crate_` are other words.
        if words[at] != root || words.get(at + 1) != Some(&"::") {
            continue;
        }
        let rest = &words[at + 2..];
        if rest.first() != Some(&"{") {
            found.extend(rest.first().map(|name| (*name).to_owned()));
            continue;
        }
        let mut depth = 0;
        let mut before = "";
        for word in rest {
            match *word {
                "{" => depth += 1,
                "}" => depth -= 1,
                name if depth == 1 && (before == "{" || before == ",") => found.push(name.to_owned()),
                _ => {}
            }
            before = word;
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// Names, `::`, and every other sign by itself.
fn words(code: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let name = |c: char| c.is_alphanumeric() || c == '_';
        let length = if name(first) {
            rest.find(|c| !name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        if !first.is_whitespace() {
            words.push(&rest[..length]);
        }
        rest = &rest[length..];
    }
    words
}

/// Code without comments and without what stands in strings.
fn without_text(code: &str) -> String {
    let mut out = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let raw = raw_string(rest);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw {
            length
        } else if first == '"' {
            string(rest)
        } else if first == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped > 0 {
            rest = &rest[skipped..];
        } else {
            // A name is taken whole, so that the `r` of `for` begins no raw string.
            let name = |c: char| c.is_alphanumeric() || c == '_';
            let length = if name(first) { rest.find(|c| !name(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
            out.push_str(&rest[..length]);
            rest = &rest[length..];
        }
    }
    out
}

/// Length of the raw string that `rest` begins with.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].strip_prefix('"')?;
    let begin = rest.len() - after.len() + hashes + 1;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()))
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Length of the character that `rest` begins with; 0 if it is a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match (chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_)) => rest[3..].find('\'').map_or(0, |end| end + 4),
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// Code without items under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut parts = code.split("#[cfg(test)]");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let semicolon = part.find(';').unwrap_or(part.len());
        let brace = part.find('{').unwrap_or(part.len());
        if semicolon < brace {
            out.push_str(&part[semicolon..]);
            continue;
        }
        let mut depth = 0_i32;
        let end = part.char_indices().find(|(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            depth == 0 && *c == '}'
        });
        out.push_str(end.map_or("", |(at, _)| &part[at + 1..]));
    }
    out
}

/// The guide's table of keys is what people search Redis by.
#[test]
fn the_architecture_names_every_key() {
    let keys = read(&root().join("src/stream/keys.rs"));
    let guide = read(&root().join("docs/architecture.md"));
    let names = keys.split("\"").skip(1).step_by(2).filter(|literal| literal.starts_with("{}:"));
    let of_partition = keys.split("self.of(p, \"").skip(1).filter_map(|rest| rest.split('"').next());
    let mut patterns: Vec<String> = of_partition.map(|name| format!("`mill:{{p}}:{name}`")).collect();
    for name in names {
        let name = name.replacen("{}", "mill", 1).replace("{{{p}}}", "\u{1}");
        let name = name.replace("{endpoint}", "<name>").replace("{}", "<device>").replace('{', "<").replace('}', ">");
        patterns.push(format!("`{}`", name.replace('\u{1}', "{p}")));
    }
    patterns.retain(|pattern| pattern != "`mill:{p}:<name>`");
    assert!(patterns.len() > 25, "{patterns:?}");
    let missing: Vec<_> = patterns.iter().filter(|pattern| !guide.contains(pattern.as_str())).collect();
    assert!(missing.is_empty(), "docs/architecture.md doesn't name {missing:?}");
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).to_string_lossy().into_owned()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
}
