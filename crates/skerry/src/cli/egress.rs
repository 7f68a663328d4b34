//! `egress`: where a sandbox may connect.

use std::process::ExitCode;

use clap::Args;
use skerry_api::Egress;

use super::{Context, Outcome, output};

/// Show or change where a sandbox with network nat may connect
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry egress build
  skerry egress build --allow example.org --allow '*.example.org'
  skerry egress build --deny 192.0.2.0/24
  skerry egress build --clear")]
pub(crate) struct EgressArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    #[command(flatten)]
    rules: Rules,
    /// No rules at all: all that is public is open
    #[arg(long, conflicts_with_all = ["allow", "deny"])]
    clear: bool,
}

/// Rules on a command line.
#[derive(Debug, Clone, Args)]
pub(crate) struct Rules {
    /// It may connect there: an address, a network, a domain, or *.domain; everything else is denied unless --deny says what is
    #[arg(long, value_name = "WHERE")]
    allow: Vec<String>,
    /// It may not connect there, unless --allow says so: an address or a network
    #[arg(long, value_name = "WHERE")]
    deny: Vec<String>,
}

impl Rules {
    /// `None`: none were given.
    pub(crate) fn request(self) -> Option<Egress> {
        let is_given = !self.allow.is_empty() || !self.deny.is_empty();
        is_given.then(|| Egress {
            allow: self.allow,
            deny: (!self.deny.is_empty()).then_some(self.deny),
        })
    }
}

pub(super) async fn egress(ctx: &Context, args: EgressArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    let wanted = args.clear.then(Egress::default).or(args.rules.request());
    let record = match wanted {
        Some(rules) => sandbox.set_egress(&rules).await?,
        None => sandbox.get().await?,
    };
    if ctx.out.json {
        output::json(&record.egress)?;
    } else if record.network == "none" {
        output::line("reaches nothing: its network is none")?;
    } else {
        show(&record.egress)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(egress: &Egress) -> anyhow::Result<()> {
    let denied = egress.deny.as_deref().unwrap_or_default();
    if egress.allow.is_empty() && denied.is_empty() {
        output::line("no rules: all that is public is open")?;
    }
    for (word, entries) in [("allow", egress.allow.as_slice()), ("deny", denied)] {
        for entry in entries {
            output::line(&format!("{word:<6}{entry}"))?;
        }
    }
    Ok(())
}
