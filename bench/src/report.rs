//! The results as files: everything as JSON, and tables for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::results::{Figures, Missing, Results, Summary, US};
use crate::say;

/// What a run has to say.
#[derive(Serialize)]
pub(crate) struct Report<'a> {
    machine: &'a Machine,
    load_after: String,
    parts: Vec<Part<'a>>,
}

/// A table.
#[derive(Serialize)]
struct Part<'a> {
    /// Empty where there is only one.
    title: &'a str,
    rows: Vec<Summary>,
    missing: &'a [Missing],
    notes: &'a [String],
}

impl<'a> Report<'a> {
    /// Of a run that ends now.
    pub(crate) fn new(machine: &'a Machine) -> Self {
        let (load_after, parts) = (machine::load(), Vec::new());
        Self {
            machine,
            load_after,
            parts,
        }
    }

    /// With one more table.
    pub(crate) fn part(mut self, title: &'a str, results: &'a Results) -> Self {
        self.parts.push(Part {
            title,
            rows: results.summary(),
            missing: &results.missing,
            notes: &results.notes,
        });
        self
    }

    /// Writes `<name>.md`, and everything to `<json>.json`.
    pub(crate) fn write(&self, folder: &Path, name: &str, json: &str) -> Result<()> {
        fs::create_dir_all(folder)?;
        let json = folder.join(format!("{json}.json"));
        fs::write(&json, serde_json::to_string_pretty(self)? + "\n")?;
        fs::write(folder.join(format!("{name}.md")), self.text()?)?;
        say(&format!("written to {}", json.display()));
        Ok(())
    }

    /// As Markdown.
    pub(crate) fn text(&self) -> Result<String> {
        let mut out = String::from("# Measured\n\nMade by `make bench`.\n\n");
        let machine = self.machine;
        writeln!(
            out,
            "{}: {}, {} cores, {} MiB of memory, Linux {}, virtualised: {}, {}. Revision {}. Load {} before, {} after.\n",
            machine.date,
            machine.cpu,
            machine.cores,
            machine.memory_mib,
            machine.kernel,
            machine.virtualised,
            machine.file_system,
            machine.revision,
            machine.load_before,
            self.load_after
        )?;
        out += "`×` is a contestant's p50 divided by ours in the same row: how many times as long, or as much, it is. `Δ` is how much more ours is.\n";
        for part in &self.parts {
            part.write(&mut out)?;
        }
        Ok(out)
    }
}

impl Part<'_> {
    fn write(&self, out: &mut String) -> Result<()> {
        if !self.title.is_empty() {
            writeln!(out, "\n## {}", self.title)?;
        }
        *out += "\n| what | reach | who | p50 | p95 | p99 | n | × | Δ |\n|---|---|---|--:|--:|--:|--:|--:|--:|\n";
        for row in &self.rows {
            for (at, figures) in row.figures.iter().enumerate() {
                let head = if at == 0 { head(row) } else { "| |".to_owned() };
                writeln!(out, "{head}{}", line(figures))?;
            }
        }
        for missing in self.missing {
            writeln!(
                out,
                "\n- {} did not take part: {}",
                missing.who, missing.why
            )?;
        }
        for note in self.notes {
            writeln!(out, "\n- {note}")?;
        }
        Ok(())
    }
}

fn head(row: &Summary) -> String {
    let reach = row.row.reach.unwrap_or_default();
    format!("| {} ({}) | {reach}", row.row.title, row.row.unit)
}

fn line(figures: &Figures) -> String {
    let who = if figures.who == US {
        format!("**{US}**")
    } else {
        figures.who.clone()
    };
    let to_ours = |value: Option<f64>| value.map_or_else(String::new, shown);
    format!(
        " | {who} | {} | {} | {} | {} | {} | {} |",
        shown(figures.p50),
        shown(figures.p95),
        shown(figures.p99),
        figures.n,
        to_ours(figures.ratio),
        to_ours(figures.ours_more)
    )
}

/// Three figures are as many as mean something.
fn shown(value: f64) -> String {
    let decimals = match value.abs() {
        0.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}
