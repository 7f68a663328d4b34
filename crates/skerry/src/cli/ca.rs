//! `ca`: what clients have to trust before they talk TLS with a server that has no other certificates.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;
use skerry_client::Client;

use super::connect::Server;
use super::{Outcome, output};
use crate::Global;
use crate::data_dir::DataDir;

/// Print the certificate of the server's own CA
#[derive(Debug, Args)]
#[command(after_help = "\
The CA can vouch for localhost and the server's --domains only. How to trust it:
  curl      curl --cacert ca.pem https://localhost:7443/health
  Node      NODE_EXTRA_CA_CERTS=ca.pem
  Python    SSL_CERT_FILE=FILE, of these certificates and the system's (`skerry env e2b --domain`)
  Debian    cp ca.pem /usr/local/share/ca-certificates/skerry.crt && update-ca-certificates
  Fedora    cp ca.pem /etc/pki/ca-trust/source/anchors/skerry.pem && update-ca-trust
  macOS     security add-trusted-cert -r trustRoot -k ~/Library/Keychains/login.keychain ca.pem

Examples:
  skerry ca > ca.pem
  skerry ca --url https://skerry.example.com")]
pub(crate) struct CaArgs {}

/// That of the server, or what one that ran here left.
pub(super) async fn ca(global: &Global, _args: &CaArgs) -> Outcome {
    let pem = match Server::find(global) {
        Ok(server) => {
            let key = server.key.as_deref().unwrap_or_default();
            Client::new(&server.url, key)?.ca().await?
        }
        Err(none) => {
            let left = DataDir::choose(global.data_dir.as_deref())?.ca_file();
            DataDir::read(&left)
                .with_context(|| format!("cannot read {}", left.display()))?
                .ok_or(none)?
        }
    };
    if global.json {
        output::json(&json!({"ca": pem}))?;
    } else {
        output::line(pem.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}
