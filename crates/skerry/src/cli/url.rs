//! `url`: where a port of a sandbox is reached.

use std::process::ExitCode;

use clap::Args;

use super::{Context, Outcome, output, parse};

/// Print the address of what listens on a port of a sandbox, for a browser
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skerry url build 3000
  xdg-open \"$(skerry url build 3000 --ttl 10m)\"
  curl -H \"X-API-Key: $SKERRY_API_KEY\" \"$(skerry url build 3000 --json | jq -r .url)\"

Whoever has the address gets in until its time is over. Programs use the plain one with a key instead.")]
pub(crate) struct UrlArgs {
    /// The sandbox: its name, its id, or the first letters of its id
    sandbox: String,
    /// The port inside
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// The address is good for this long: 90s, 15m, 2h
    #[arg(long, value_name = "TIME", value_parser = parse::seconds, default_value = "1h")]
    ttl: u64,
}

pub(super) async fn url(ctx: &Context, args: UrlArgs) -> Outcome {
    let sandbox = ctx.sandbox(&args.sandbox).await?;
    let address = sandbox.port(args.port, args.ttl).await?;
    if ctx.out.json {
        output::json(&address)?;
    } else if sandbox.get().await?.public_ports {
        output::line(&address.url)?;
    } else {
        output::line(&address.signed_url)?;
    }
    Ok(ExitCode::SUCCESS)
}
