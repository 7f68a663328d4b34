//! The rows, and how each is measured.

mod busy;
mod cold;
mod exec;
mod fork;
mod output;
mod rate;
mod resident;
mod warm;

use anyhow::Result;
use serde_json::{Value, json};
use skerry_testkit::server::Server;

use crate::api::Api;
use crate::peers::Peers;
use crate::results::{Results, Row};
use crate::say;

/// The program that does nothing.
const TRUE: &str = "/bin/true";

/// What the server and the others are measured with.
#[derive(Debug, Clone, Copy)]
struct Stage<'a> {
    api: &'a Api,
    server: &'a Server,
    peers: &'a Peers,
}

/// Measures everything, or what `only` names.
pub(crate) async fn measure(
    api: &Api,
    server: &Server,
    peers: &Peers,
    results: &mut Results,
    only: Option<&str>,
) -> Result<()> {
    let stage = Stage { api, server, peers };
    let wanted = |name: &str| {
        let is = only.is_none_or(|only| only == name);
        if is {
            say(name);
        }
        is
    };
    if wanted("resident") {
        resident::measure(stage, results).await?;
    }
    if wanted("cold") {
        cold::measure(stage, results).await?;
    }
    if wanted("warm") {
        warm::measure(results).await?;
    }
    if wanted("exec") {
        exec::measure(stage, results).await?;
    }
    if wanted("output") {
        output::measure(stage, results).await?;
    }
    if wanted("rate") {
        rate::measure(stage, results).await?;
    }
    if wanted("busy") {
        busy::measure(stage, results).await?;
    }
    if wanted("fork") {
        fork::measure(stage, results).await?;
    }
    Ok(())
}

/// A sandbox like any other, without a network, as the others have none.
fn plain() -> Value {
    json!({ "image": "host", "network": "none" })
}

const fn millis(title: &'static str, reach: Option<&'static str>) -> Row {
    Row {
        title,
        unit: "ms",
        reach,
    }
}
