//! Logs go to stderr: text for a person, JSON lines for a machine.

use std::io::IsTerminal;

use anyhow::{Context, bail};
use tracing_subscriber::EnvFilter;

use crate::env;

/// Quiet libraries, our own words.
const DEFAULT: &str = "warn,skerry=info,skerry_node=info,skerry_control=info,skerry_http=info";

pub(crate) fn start() -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter(&value(env::LOG))?);
    match value(env::LOG_FORMAT).as_str() {
        "" | "text" => builder.with_target(false).init(),
        "json" => builder.json().flatten_event(true).init(),
        other => bail!("{} is `{other}`; it must be text or json", env::LOG_FORMAT),
    }
    Ok(())
}

fn value(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

fn filter(asked: &str) -> anyhow::Result<EnvFilter> {
    let asked = if asked.is_empty() { DEFAULT } else { asked };
    EnvFilter::try_new(asked).with_context(|| format!("{} is `{asked}`", env::LOG))
}
