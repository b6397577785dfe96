//! `millstream config`: what is wrong with the settings, and what they are.

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::ending::{Ending, Outcome};
use super::{output, settings};
use crate::config::{Line, Mistake, Process, Warning};
use crate::service::SettingsArgs;

/// Checks or shows the settings.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Tells everything that is wrong with the settings, in one run; exits with 2 if anything is.
    ///
    /// What only some processes need is a warning, unless --for names one of them.
    #[command(after_help = "Examples:\n  \
        millstream config check --config /etc/millstream.toml\n  \
        millstream config check --config millstream.toml --for edge --json")]
    Check(CheckArgs),
    /// Shows every setting with its value and where that came from; secrets are masked.
    #[command(after_help = "Examples:\n  \
        millstream config print --config /etc/millstream.toml\n  \
        millstream config print --changed\n  \
        millstream config print --json | jq -r '.[] | select(.key == \"redis.url\").source'")]
    Print(PrintArgs),
}

/// What to check.
#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    /// Check for this process; some need what others don't [default: all of them].
    #[arg(long = "for", value_name = "PROCESS")]
    process: Option<ProcessName>,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

/// What to show.
#[derive(Debug, clap::Args)]
pub(super) struct PrintArgs {
    /// Only what isn't the default.
    #[arg(long)]
    changed: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProcessName {
    Edge,
    Api,
    Archive,
    Replay,
    Callback,
    Tool,
}

impl ProcessName {
    const ALL: [Self; 6] = [Self::Edge, Self::Api, Self::Archive, Self::Replay, Self::Callback, Self::Tool];

    fn process(self) -> Process {
        match self {
            Self::Edge => Process::Edge,
            Self::Api => Process::Api,
            Self::Archive => Process::Archive,
            Self::Replay => Process::Replay,
            Self::Callback => Process::Callback,
            Self::Tool => Process::Tool,
        }
    }
}

/// Checks or shows.
pub(super) fn run(command: ConfigCommand, flags: &SettingsArgs) -> Outcome {
    match command {
        ConfigCommand::Check(args) => check(&args, flags),
        ConfigCommand::Print(args) => print(&args, flags),
    }
}

/// What was found, for the process that it matters to; for all of them if it matters to all.
struct Finding<T> {
    about: T,
    processes: Vec<&'static str>,
}

fn check(args: &CheckArgs, flags: &SettingsArgs) -> Outcome {
    let asked = args.process.map_or_else(|| ProcessName::ALL.to_vec(), |process| vec![process]);
    let (mut mistakes, mut warnings) = (Vec::new(), Vec::new());
    for process in asked.iter().map(|name| name.process()) {
        match settings::load_for(flags, process) {
            Ok(loaded) => loaded.warnings.into_iter().for_each(|found| add(&mut warnings, found, process)),
            Err(found) => found.0.into_iter().for_each(|found| add(&mut mistakes, found, process)),
        }
    }
    // What only some processes need may be given to these alone: a secret to the edge, for one.
    let everybody = asked.len();
    let (mistakes, lacking): (Vec<_>, Vec<_>) =
        mistakes.into_iter().partition(|found: &Finding<Mistake>| found.processes.len() == everybody);
    warnings.extend(lacking.into_iter().map(|found| Finding { about: lacks(found.about), processes: found.processes }));
    if args.json {
        output::json(&json!({
            "ok": mistakes.is_empty(),
            "mistakes": mistakes.iter().map(mistake_json).collect::<Vec<_>>(),
            "warnings": warnings.iter().map(warning_json).collect::<Vec<_>>(),
        }))?;
    } else {
        let whom = |processes: &[&str]| {
            if processes.len() == asked.len() { String::new() } else { format!(" [for {}]", processes.join(", ")) }
        };
        for mistake in &mistakes {
            output::line(format!("mistake: {}{}", mistake.about, whom(&mistake.processes)))?;
        }
        for warning in &warnings {
            output::line(format!("warning: {}{}", warning.about, whom(&warning.processes)))?;
        }
        output::line(summary(mistakes.len(), warnings.len()))?;
    }
    if mistakes.is_empty() { Ok(()) } else { Err(Ending::MistakesTold) }
}

fn lacks(mistake: Mistake) -> Warning {
    Warning { subject: mistake.subject, what: mistake.what }
}

fn add<T: PartialEq>(findings: &mut Vec<Finding<T>>, about: T, process: Process) {
    match findings.iter_mut().find(|finding| finding.about == about) {
        Some(finding) => finding.processes.push(process.name()),
        None => findings.push(Finding { about, processes: vec![process.name()] }),
    }
}

fn summary(mistakes: usize, warnings: usize) -> String {
    let count = |number: usize, one: &str, many: &str| output::count(number as u64, one, many);
    match (mistakes, warnings) {
        (0, 0) => "the settings can be used".to_owned(),
        (0, _) => format!("the settings can be used; {}", count(warnings, "warning", "warnings")),
        (_, 0) => count(mistakes, "mistake", "mistakes"),
        _ => format!("{}, {}", count(mistakes, "mistake", "mistakes"), count(warnings, "warning", "warnings")),
    }
}

fn mistake_json(finding: &Finding<Mistake>) -> Value {
    let mistake = &finding.about;
    json!({
        "subject": mistake.subject,
        "source": mistake.source.to_string(),
        "what": mistake.what,
        "nearest": mistake.nearest,
        "for": finding.processes,
    })
}

fn warning_json(finding: &Finding<Warning>) -> Value {
    json!({ "subject": finding.about.subject, "what": finding.about.what, "for": finding.processes })
}

fn print(args: &PrintArgs, flags: &SettingsArgs) -> Outcome {
    let loaded = settings::load_for(flags, Process::Tool)?;
    let wanted = |line: &&Line| !args.changed || line.source != crate::config::Source::Default;
    let lines: Vec<&Line> = loaded.lines.iter().filter(wanted).collect();
    if args.json {
        let lines: Vec<Value> = lines.iter().map(|line| line_json(line)).collect();
        return output::json(&lines);
    }
    let mut table = output::table(&["key", "value", "source"]);
    for line in lines {
        table.add_row([line.key.clone(), output::or_dash(line.value.as_deref()), line.source.to_string()]);
    }
    output::show(&table)
}

/// A value stands in JSON as in TOML where both write it alike; else as text.
fn line_json(line: &Line) -> Value {
    let value = line.value.as_deref().map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)));
    json!({ "key": line.key, "value": value, "source": line.source.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    #[test]
    fn what_matters_to_several_processes_is_told_once() {
        let warning = Warning { subject: "a".into(), what: "b".into() };
        let mut found = Vec::new();
        add(&mut found, warning.clone(), Process::Edge);
        add(&mut found, warning, Process::Archive);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].processes, ["edge", "archive"]);
    }

    #[test]
    fn the_summary_counts() {
        assert_eq!(summary(0, 0), "the settings can be used");
        assert_eq!(summary(0, 1), "the settings can be used; 1 warning");
        assert_eq!(summary(2, 1), "2 mistakes, 1 warning");
    }

    #[test]
    fn values_are_json_where_toml_is() {
        let line = |value: &str| Line { key: "k".into(), value: Some(value.into()), source: Source::Default };
        assert_eq!(line_json(&line("70"))["value"], 70);
        assert_eq!(line_json(&line("\"a\""))["value"], "a");
        assert_eq!(line_json(&line("[\"a\", \"b\"]"))["value"], json!(["a", "b"]));
        assert_eq!(line_json(&line("'x'"))["value"], "'x'");
    }
}
