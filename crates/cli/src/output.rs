//! What people see: progress on a terminal, tables, JSON, colour only where it is wanted.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

/// A spinner on standard error; silent when that is no terminal.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts with a message.
    pub(crate) fn start(message: impl Into<String>) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(message.into());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar }
    }

    /// Says what is being done now.
    pub(crate) fn step(&self, message: impl Into<String>) {
        if let Some(bar) = &self.bar {
            bar.set_message(message.into());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes a line to standard output; a closed pipe ends the program quietly, as it should.
pub(crate) fn line(text: impl AsRef<str>) -> Result<()> {
    raw(format!("{}\n", text.as_ref()).as_bytes())
}

/// Writes bytes to standard output.
pub(crate) fn raw(bytes: &[u8]) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        other => Ok(other?),
    }
}

/// Prints a value as JSON: indented on a terminal.
pub(crate) fn json(value: &Value) -> Result<()> {
    let pretty = std::io::stdout().is_terminal();
    line(if pretty { serde_json::to_string_pretty(value)? } else { value.to_string() })
}

/// Text in a colour, where standard output is a terminal and `NO_COLOR` is not set.
pub(crate) fn colour(code: u8, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some() || !std::io::stdout().is_terminal();
    if plain { text.to_owned() } else { format!("\x1b[{code}m{text}\x1b[0m") }
}

/// A line of a log for people: Lambda's runtimes write a trace as one line, its parts apart by carriage returns,
/// and a terminal would print each part over the one before.
pub(crate) fn log_text(line: &str) -> String {
    line.trim_end().replace('\r', "\n")
}

/// Columns that line up, two spaces between them.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{log_text, table};

    #[test]
    fn a_trace_has_its_lines() {
        assert_eq!(log_text("[ERROR] no\rTraceback:\r  x\r\n"), "[ERROR] no\nTraceback:\n  x");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["NAME", "STATE"], vec!["a-long-name", "Active"], vec!["é", "Failed"]];
        let rows = rows.map(|row| row.into_iter().map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(table(&rows), "NAME         STATE\na-long-name  Active\né            Failed\n");
    }
}
