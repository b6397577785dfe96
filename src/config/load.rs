//! From all layers to checked settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::mistake::Findings;
use super::tree::Tree;
use super::{Mistakes, Process, Settings, Source, Warning, check, environment, file, print};

/// What to read.
#[derive(Debug, Clone)]
pub struct LoadOptions {
    /// The file given by `--config`.
    pub file: Option<PathBuf>,
    /// The `key=value` of each `--set`.
    pub set: Vec<String>,
    /// The variables.
    pub environment: Vec<(String, String)>,
    /// Whom the settings are for.
    pub process: Process,
}

/// Settings that can be used, and how they came about.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Where the value of each key came from; keys of endpoints hold their number.
    pub sources: BTreeMap<String, Source>,
    /// What may surprise.
    pub warnings: Vec<Warning>,
    /// Every key with its value as it may be shown.
    pub lines: Vec<Line>,
}

/// Settings as far as they can be read, and everything that is wrong with them.
#[derive(Debug, Clone)]
pub struct Inspected {
    /// The settings; a value that can't be read is the default.
    pub settings: Settings,
    /// What is wrong.
    pub mistakes: Mistakes,
    /// What may surprise.
    pub warnings: Vec<Warning>,
}

/// A key with its value as it may be shown: secrets are masked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The key.
    pub key: String,
    /// Its value as in a file; nothing if it is not set.
    pub value: Option<String>,
    /// Where it came from.
    pub source: Source,
}

impl LoadOptions {
    /// Only the defaults, for `process`.
    pub fn new(process: Process) -> Self {
        Self { file: None, set: Vec::new(), environment: Vec::new(), process }
    }

    /// With the variables of this process' environment.
    #[must_use]
    pub fn with_environment(mut self) -> Self {
        // A variable that is no text can't be one of ours.
        let variables =
            std::env::vars_os().filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        self.environment = variables.collect();
        self
    }
}

impl Settings {
    /// Reads the settings: defaults < file < environment < flags.
    ///
    /// ```
    /// use millstream::config::{LoadOptions, Process, Settings};
    /// let mut options = LoadOptions::new(Process::Archive);
    /// options.set = vec!["archive.max_rows=70".into()];
    /// assert_eq!(Settings::load(&options).unwrap().settings.archive.max_rows, 70);
    ///
    /// options.set = vec!["archive.max_row=70".into(), "redis.partitions=0".into()];
    /// let mistakes = Settings::load(&options).unwrap_err().to_string();
    /// assert!(mistakes.contains("did you mean archive.max_rows?"));
    /// assert!(mistakes.contains("redis.partitions (--set): 0 given"));
    /// ```
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn load(options: &LoadOptions) -> Result<Loaded, Mistakes> {
        let mut findings = Findings::default();
        let (tree, settings) = read(options, &mut findings);
        let Some(settings) = settings.filter(|_| findings.mistakes.is_empty()) else {
            return Err(Mistakes(findings.mistakes));
        };
        let lines = print::lines(&tree);
        let sources = lines.iter().map(|line| (line.key.clone(), line.source.clone())).collect();
        Ok(Loaded { settings, sources, warnings: findings.warnings, lines })
    }

    /// Reads the settings as [`Settings::load`] does, and gives what can be used in spite of mistakes: for
    /// a look at what is wrong, not for work.
    pub fn inspect(options: &LoadOptions) -> Inspected {
        let mut findings = Findings::default();
        let (_, settings) = read(options, &mut findings);
        Inspected {
            settings: settings.unwrap_or_default(),
            mistakes: Mistakes(findings.mistakes),
            warnings: findings.warnings,
        }
    }
}

fn read(options: &LoadOptions, findings: &mut Findings) -> (Tree, Option<Settings>) {
    let mut tree = Tree::defaults();
    if let Some(path) = &options.file {
        let layer = file::read(path, findings);
        tree.apply(layer, findings);
    }
    let layer = environment::read(&options.environment, findings);
    tree.apply(layer, findings);
    let layer = environment::flags(&options.set, findings);
    tree.apply(layer, findings);
    environment::endpoints(&options.environment, &mut tree, findings);
    match tree.settings() {
        Ok(settings) => {
            check::check(&settings, options.process, &tree, findings);
            (tree, Some(settings))
        }
        Err(what) => {
            // Each value fits its key, so this can only be a defect; it must not go unseen.
            findings.mistake("settings", Source::Default, what);
            (tree, None)
        }
    }
}
