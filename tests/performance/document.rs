//! The table of figures in a document, between two marks: what is measured anew takes the place of what it was.

/// Everything between these two is written by `scripts/bench`.
const BEGIN: &str = "<!-- figures: scripts/bench writes what stands here -->";
const END: &str = "<!-- end of figures -->";
const HEADER: [&str; 2] =
    ["| what | ours | yardstick | ratio | goal | reached | measured |", "|---|---|---|---|---|---|---|"];

/// The document with these rows, each a line of the table. A row of the same name keeps its place, others come behind;
/// if all rows were measured, those that are not among them are gone.
///
/// # Errors
/// The marks are not there.
pub(crate) fn with(document: &str, machine: &str, rows: &[String], all: bool) -> Result<String, String> {
    let missing = |mark: &str| format!("the document has no line {mark:?}");
    let (before, rest) = document.split_once(BEGIN).ok_or_else(|| missing(BEGIN))?;
    let (between, after) = rest.split_once(END).ok_or_else(|| missing(END))?;
    let old = between.lines().filter(|line| line.starts_with("| ") && !HEADER.contains(line));
    let mut table: Vec<&str> = if all { Vec::new() } else { old.collect() };
    for row in rows {
        match table.iter_mut().find(|old| name(old) == name(row)) {
            Some(old) => *old = row,
            None => table.push(row),
        }
    }
    let table = HEADER.into_iter().chain(table).collect::<Vec<_>>().join("\n");
    Ok(format!("{before}{BEGIN}\n\n{machine}\n\n{table}\n\n{END}{after}"))
}

/// What a line of the table is about: its first cell.
fn name(line: &str) -> &str {
    line.split(" | ").next().unwrap_or(line)
}
