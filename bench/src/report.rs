//! The results as files: everything as JSON, and a table for people.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::machine::{self, Machine};
use crate::results::{Figures, Missing, Results, Summary, US};
use crate::say;

#[derive(Serialize)]
struct Document<'a> {
    machine: &'a Machine,
    load_after: String,
    rows: Vec<Summary>,
    missing: &'a [Missing],
    notes: &'a [String],
}

/// Writes `<date>-<machine>.json` and `latest.md`.
pub(crate) fn write(folder: &Path, machine: &Machine, results: &Results) -> Result<()> {
    fs::create_dir_all(folder)?;
    let document = Document {
        machine,
        load_after: machine::load(),
        rows: results.summary(),
        missing: &results.missing,
        notes: &results.notes,
    };
    let day = machine.date.split(' ').next().unwrap_or_default();
    let json = folder.join(format!("{day}-{}.json", machine.slug()));
    fs::write(&json, serde_json::to_string_pretty(&document)? + "\n")?;
    let table = markdown(&document)?;
    fs::write(folder.join("latest.md"), &table)?;
    say(&format!("written to {}\n\n{table}", json.display()));
    Ok(())
}

fn markdown(document: &Document<'_>) -> Result<String> {
    let mut out = String::from("# Measured\n\nMade by `make bench`.\n\n");
    let machine = document.machine;
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
        document.load_after
    )?;
    out += "`×` is a contestant's p50 divided by ours in the same row: how many times as long, or as much, it is.\n\n";
    out += "| what | reach | who | p50 | p95 | p99 | n | × |\n|---|---|---|--:|--:|--:|--:|--:|\n";
    for row in &document.rows {
        for (at, figures) in row.figures.iter().enumerate() {
            let head = if at == 0 { head(row) } else { "| |".to_owned() };
            writeln!(out, "{head}{}", line(figures))?;
        }
    }
    for missing in document.missing {
        writeln!(
            out,
            "\n- {} did not take part: {}",
            missing.who, missing.why
        )?;
    }
    for note in document.notes {
        writeln!(out, "\n- {note}")?;
    }
    Ok(out)
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
    let ratio = figures.ratio.map_or_else(String::new, shown);
    format!(
        " | {who} | {} | {} | {} | {} | {ratio} |",
        shown(figures.p50),
        shown(figures.p95),
        shown(figures.p99),
        figures.n
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
