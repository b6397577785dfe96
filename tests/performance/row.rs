//! A row of the table: what was measured, against what, and the goal.

use std::future::Future;
use std::pin::Pin;

use super::growth::{self, Growing};
use super::support::{Postgres, Redis, Stack};
use super::{archive, callbacks, catch_up, fan_out, ingest, latency, memory, storm};

/// Servers and processes for one measurement.
pub(crate) struct System {
    pub(crate) stack: Stack,
    pub(crate) seconds: u64,
}

impl System {
    /// An edge without limits, a replay and an archive worker, on servers of their own.
    async fn start(seconds: u64, archived: bool) -> Self {
        let stack = Stack::builder()
            .redis(Redis::start(&[]).await)
            .postgres(Postgres::start().await)
            .env("MILLSTREAM__REDIS__PARTITIONS", "16")
            .env("MILLSTREAM__LIMITS__SENDS_PER_SECOND", "0")
            .env("MILLSTREAM__LIMITS__HANDSHAKES_PER_SECOND", "0")
            .start()
            .await;
        if !archived {
            // It has initialised the partitions, and is not needed for more.
            stack.kill9("archive");
        }
        Self { stack, seconds }
    }
}

/// One figure beside its yardstick.
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) ours: f64,
    /// Nothing: the figure is compared with nothing but its goal.
    pub(crate) yardstick: Option<f64>,
    pub(crate) goal: Goal,
    pub(crate) unit: &'static str,
}

/// What the figure has to be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    /// Of the yardstick, at least.
    AtLeast(f64),
    /// Of the yardstick, at most.
    AtMost(f64),
    /// By itself, below.
    Below(f64),
    /// Is only told.
    None,
}

type Measure = for<'a> fn(&'a mut System) -> Pin<Box<dyn Future<Output = Vec<Row>> + 'a>>;

/// How a row is measured.
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    /// Whether messages are archived meanwhile: not where the yardstick does without.
    archived: bool,
    measure: Measure,
}

impl Plan {
    /// Measures once, on new servers: a row does not pay for what another has left.
    pub(crate) async fn run(&self, seconds: u64) -> Vec<Row> {
        let mut system = System::start(seconds, self.archived).await;
        (self.measure)(&mut system).await
    }
}

const fn live(name: &'static str, measure: Measure) -> Plan {
    Plan { name, archived: false, measure }
}

const fn archived(name: &'static str, measure: Measure) -> Plan {
    Plan { name, archived: true, measure }
}

/// All rows.
pub(crate) const ALL: &[Plan] = &[
    live("ingest", |system| Box::pin(ingest::measure(system))),
    live("fan-out", |system| Box::pin(fan_out::many_rooms(system))),
    live("one-room", |system| Box::pin(fan_out::one_room(system))),
    live("latency", |system| Box::pin(latency::measure(system))),
    live("memory", |system| Box::pin(memory::measure(system))),
    archived("archive", |system| Box::pin(archive::measure(system))),
    archived("catch-up", |system| Box::pin(catch_up::measure(system))),
    archived("storm", |system| Box::pin(storm::measure(system))),
    archived("callbacks", |system| Box::pin(callbacks::measure(system))),
    archived("rooms", |system| Box::pin(growth::measure(system, Growing::Rooms))),
    archived("log", |system| Box::pin(growth::measure(system, Growing::Log))),
    archived("connections", |system| Box::pin(growth::measure(system, Growing::Connections))),
];

impl Row {
    pub(crate) fn new(what: &str, unit: &'static str, ours: f64, yardstick: Option<f64>, goal: Goal) -> Self {
        Self { what: what.to_owned(), ours, yardstick, goal, unit }
    }

    /// A line of the table, as Markdown.
    pub(crate) fn line(&self) -> String {
        let number = |figure: f64| if figure >= 1_000.0 { format!("{figure:.0}") } else { format!("{figure:.2}") };
        let dash = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), number);
        format!(
            "| {} | {} {} | {} | {} | {} | {} |",
            self.what,
            number(self.ours),
            self.unit,
            dash(self.yardstick),
            dash(self.ratio()),
            self.goal,
            self.reached()
        )
    }

    fn ratio(&self) -> Option<f64> {
        self.yardstick.map(|yardstick| self.ours / yardstick)
    }

    fn reached(&self) -> &'static str {
        let reached = match (self.goal, self.ratio()) {
            (Goal::AtLeast(goal), Some(ratio)) => ratio >= goal,
            (Goal::AtMost(goal), Some(ratio)) => ratio <= goal,
            (Goal::Below(goal), _) => self.ours < goal,
            _ => return "",
        };
        if reached { "yes" } else { "no" }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(goal) => write!(f, "≥ {goal}"),
            Self::AtMost(goal) => write!(f, "≤ {goal}"),
            Self::Below(goal) => write!(f, "< {goal}"),
            Self::None => Ok(()),
        }
    }
}

/// The rows of several runs, each figure by its median.
pub(crate) fn medians(runs: Vec<Vec<Row>>) -> Vec<Row> {
    let mut runs = runs.into_iter();
    let Some(mut first) = runs.next() else { return Vec::new() };
    let others: Vec<Vec<Row>> = runs.collect();
    for (at, row) in first.iter_mut().enumerate() {
        let of = |get: fn(&Row) -> Option<f64>| others.iter().filter_map(move |run| get(&run[at]));
        row.ours = median(std::iter::once(row.ours).chain(of(|row| Some(row.ours))).collect());
        row.yardstick =
            row.yardstick.map(|mine| median(std::iter::once(mine).chain(of(|row| row.yardstick)).collect()));
    }
    first
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Writes the table, as Markdown.
pub(crate) fn show(rows: &[Row]) {
    println!("| what | ours | yardstick | ratio | goal | reached |\n|---|---|---|---|---|---|");
    for row in rows {
        println!("{}", row.line());
    }
}
