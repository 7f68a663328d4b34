//! Logs go to stderr: text for a person, JSON lines for a machine.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::env;

/// Quiet libraries, our own words.
const DEFAULT: &str = "warn,skerry=info,skerry_node=info,skerry_control=info,skerry_http=info";

pub(crate) fn start() {
    let filter = std::env::var(env::LOG).unwrap_or_default();
    let filter = if filter.is_empty() {
        DEFAULT.to_owned()
    } else {
        filter
    };
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(EnvFilter::new(filter));
    if std::env::var(env::LOG_FORMAT).is_ok_and(|f| f == "json") {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_target(false).init();
    }
}
