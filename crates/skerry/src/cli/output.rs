//! Writing: JSON for programs, tables for people, colours for terminals only.

use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use skerry_types::{ExecStatus, SandboxState};

/// How stdout is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Out {
    pub(crate) json: bool,
    colour: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            json,
            colour: wanted && io::stdout().is_terminal(),
        }
    }

    /// Rows below a head, in columns.
    pub(crate) fn table(self, head: &[&str], rows: Vec<Vec<Cell>>) -> anyhow::Result<()> {
        let text = self.table_text(head, rows);
        Ok(io::stdout().lock().write_all(text.as_bytes())?)
    }

    pub(crate) fn table_text(self, head: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_content_arrangement(ContentArrangement::Disabled);
        if self.colour {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(
            head.iter()
                .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
        );
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        let lines = table.to_string();
        let trimmed: Vec<&str> = lines.lines().map(str::trim_end).collect();
        trimmed.join("\n") + "\n"
    }
}

/// One JSON document.
pub(crate) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer_pretty(&mut stdout, value).map_err(io::Error::from)?;
    Ok(writeln!(stdout)?)
}

/// One line of a stream of JSON.
pub(crate) fn json_line(value: &impl Serialize) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    serde_json::to_writer(&mut stdout, value).map_err(io::Error::from)?;
    writeln!(stdout)?;
    Ok(stdout.flush()?)
}

/// One line of text.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stdout().lock(), "{}", printable(text))?)
}

/// Bytes as they are.
pub(crate) fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    Ok(stdout.flush()?)
}

/// A remark on stderr, which is no data.
pub(crate) fn note(text: &str) {
    // When stderr is gone there is nobody to tell.
    let _gone = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Text that may come from a sandbox, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() && c != '\n' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(harmless).collect()
}

/// A cell of text that may come from anywhere, on one line.
pub(crate) fn cell(text: impl AsRef<str>) -> Cell {
    Cell::new(printable(text.as_ref()).replace('\n', " "))
}

/// A cell that is empty when there is nothing to say.
pub(crate) fn maybe(text: Option<&str>) -> Cell {
    cell(text.unwrap_or("-"))
}

pub(crate) fn state_cell(state: SandboxState) -> Cell {
    let colour = match state {
        SandboxState::Running => Color::Green,
        SandboxState::Failed | SandboxState::Missing => Color::Red,
        SandboxState::Stopped | SandboxState::Deleted => Color::DarkGrey,
        _ => Color::Yellow,
    };
    Cell::new(state.as_str()).fg(colour)
}

pub(crate) fn status_cell(status: ExecStatus, exit_code: Option<i32>) -> Cell {
    let colour = match (status, exit_code) {
        (ExecStatus::Done, Some(0)) => Color::Green,
        (ExecStatus::Done | ExecStatus::Failed | ExecStatus::TimedOut, _) => Color::Red,
        _ => Color::Yellow,
    };
    Cell::new(status.as_str()).fg(colour)
}

/// How long ago, to the largest unit.
pub(crate) fn age(since: Timestamp) -> String {
    let seconds = Timestamp::now().as_second() - since.as_second();
    match seconds.max(0) {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h", s / 3600),
        s => format!("{}d", s / 86_400),
    }
}

/// Milliseconds as people say them.
pub(crate) fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.2} s", ms as f64 / 1000.0),
        _ => format!("{}m{:02}s", ms / 60_000, ms / 1000 % 60),
    }
}

/// Bytes as people say them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_does_not_reach_it() {
        assert_eq!(
            printable("a\u{1b}[2Jb\u{7}\u{9b}c\nd"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\nd"
        );
    }

    #[test]
    fn sizes_and_durations_read_well() {
        let sizes = [0, 1023, 1024, 1_572_864, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.5 MiB", "16777216.0 TiB"]
        );
        let times = [0, 999, 1000, 61_500, 3_600_000].map(duration);
        assert_eq!(times, ["0 ms", "999 ms", "1.00 s", "1m01s", "60m00s"]);
    }
}
