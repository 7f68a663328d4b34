//! `skerry doctor`: what this machine can do, and what would help it do more. Looks, and changes nothing.

mod findings;
mod probe;

use std::io::{self, IsTerminal, Write};

use crate::Global;
use crate::data_dir::DataDir;

pub(crate) use probe::unshare_user;

use findings::{Finding, Level};

pub(crate) fn main(global: &Global) -> anyhow::Result<()> {
    let data_dir = DataDir::choose(global.data_dir.as_deref())?;
    let findings = findings::of(&probe::look(&data_dir));
    let mut out = io::stdout().lock();
    if global.json {
        serde_json::to_writer_pretty(&mut out, &findings).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&mut out, &findings, io::stdout().is_terminal())?;
    }
    Ok(())
}

fn print(out: &mut impl Write, findings: &[Finding], colour: bool) -> io::Result<()> {
    for finding in findings {
        let (mark, paint) = match finding.level {
            Level::Good => ("ok", "32"),
            Level::Less => ("less", "33"),
            Level::Bad => ("bad", "31"),
        };
        let mark = if colour {
            format!("\x1b[{paint}m{mark:<4}\x1b[0m")
        } else {
            format!("{mark:<4}")
        };
        writeln!(out, "{mark}  {:<18} {}", finding.what, finding.state)?;
        if let Some(help) = &finding.help {
            writeln!(out, "      {:<18} → {help}", "")?;
        }
    }
    Ok(())
}
