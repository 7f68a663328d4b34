//! `env`: what to set so that programs written for another service find this server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::connect::Server;
use super::{Failure, Outcome, output};
use crate::Global;
use crate::data_dir::DataDir;

/// Of the control plane, of sandboxes, and of what is in volumes: one server is all of them.
const ADDRESSES: [&str; 3] = ["E2B_API_URL", "E2B_SANDBOX_URL", "E2B_VOLUME_API_URL"];

/// Print the variables that make other programs use this server
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    E2b(E2bArgs),
}

/// For what is made for E2B: its SDKs, and programs and frameworks on top of them
#[derive(Debug, Args)]
#[command(after_help = "\
Without --domain addresses are given, and plain HTTP does. That suits SDKs since 2.7;
what `get_host(port)` names is then reached by http://, too.
With it everything has a name below one domain, over TLS. That suits every SDK.

Examples:
  eval \"$(skerry env e2b)\"
  eval \"$(skerry env e2b --domain)\"
  skerry env e2b --json")]
pub(crate) struct E2bArgs {
    /// Give a domain, below which each sandbox has its names, instead of addresses
    #[arg(long)]
    domain: bool,
}

pub(super) fn env(global: &Global, command: &EnvCommand) -> Outcome {
    let EnvCommand::E2b(args) = command;
    let server = Server::find(global)?;
    let key = skerry_control::e2b_key(server.key()?);
    let key = key.ok_or_else(|| Failure::key("this is no key of a Skerry server"))?;
    let mut variables = vec![("E2B_API_KEY", Some(key))];
    if args.domain {
        variables.push(("E2B_DOMAIN", Some(domain(&server)?)));
        variables.extend(trust(&server));
        // They would count more.
        variables.extend(ADDRESSES.map(|name| (name, None)));
    } else {
        variables.extend(ADDRESSES.map(|name| (name, Some(server.url.clone()))));
    }
    if global.json {
        output::json(&variables.into_iter().collect::<BTreeMap<_, _>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in variables {
        match value {
            Some(value) => output::line(&format!("export {name}={}", quoted(&value)))?,
            None => output::line(&format!("unset {name}"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Name and port of what speaks TLS.
fn domain(server: &Server) -> anyhow::Result<String> {
    let announced = match &server.data_dir {
        Some(dir) => DataDir::read(&dir.tls_url_file())?,
        None => None,
    };
    let url = announced.as_ref().unwrap_or(&server.url);
    let domain = url.strip_prefix("https://").ok_or_else(|| {
        Failure::failed("the server does not speak TLS")
            .hint("start it with --tls-listen 127.0.0.1:7443, or name its address: --url https://…")
    })?;
    Ok(domain.trim_end_matches('/').to_owned())
}

/// What makes clients trust a CA of the server's own, if it shows what that signed, and keep trusting all others.
fn trust(server: &Server) -> Vec<(&'static str, Option<String>)> {
    let Some(dir) = server
        .data_dir
        .as_ref()
        .filter(|dir| dir.ca_bundle().exists())
    else {
        return Vec::new();
    };
    let path = |path: PathBuf| Some(path.display().to_string());
    vec![
        ("SSL_CERT_FILE", path(dir.ca_bundle())),
        ("NODE_EXTRA_CA_CERTS", path(dir.ca_file())),
    ]
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn nothing_in_a_value_is_obeyed_by_a_shell() {
        let value = "it's $(a) \"test\"\n`b`";
        let script = format!("printf %s {}", quoted(value));
        let shell = std::process::Command::new("sh")
            .args(["-c", &script])
            .output();
        assert_eq!(shell.unwrap().stdout, value.as_bytes());
    }
}
