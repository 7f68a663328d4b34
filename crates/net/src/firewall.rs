//! The packet rules of the gateway's namespace, loaded once.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

use crate::factory::{DNS_PORT, RELAY_PORT};

/// Loads the rules into the calling thread's network namespace; an error says what to do.
pub(crate) fn load(gateway: Ipv4Addr, tracked_per_sandbox: usize) -> Result<(), String> {
    match run_nft(&rules(gateway, tracked_per_sandbox)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("the program `nft` is missing: install the package nftables".to_owned())
        }
        Err(error) => Err(format!("running nft failed: {error}")),
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let why = text.lines().next().unwrap_or_default();
            Err(format!(
                "nft refused the rules, the kernel may lack NAT, reject or connlimit: {why}"
            ))
        }
    }
}

/// Every TCP connection goes to the relay, every lookup to the resolver, nothing else anywhere.
/// Rejecting before routing gives the sender an answer at once instead of silence.
fn rules(gateway: Ipv4Addr, tracked_per_sandbox: usize) -> String {
    format!(
        "table inet skerry {{
  set tracked {{ type ipv4_addr; size 65535; flags dynamic; }}
  chain catch {{
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 0.0.0.0/0 udp dport 53 dnat ip to {gateway}:{DNS_PORT}
    ip daddr 0.0.0.0/0 tcp dport 53 dnat ip to {gateway}:{DNS_PORT}
    ip daddr 0.0.0.0/0 meta l4proto tcp dnat ip to {gateway}:{RELAY_PORT}
  }}
  chain admit {{
    type filter hook prerouting priority filter; policy drop;
    iifname \"lo\" accept
    ct state established accept
    ct state new add @tracked {{ ip saddr ct count over {tracked_per_sandbox} }} drop
    ip daddr {gateway} udp dport {DNS_PORT} accept
    ip daddr {gateway} tcp dport {{ {DNS_PORT}, {RELAY_PORT} }} accept
    ip daddr 0.0.0.0/0 reject with icmp admin-prohibited
  }}
  chain between {{ type filter hook forward priority filter; policy drop; }}
}}
"
    )
}

fn run_nft(rules: &str) -> io::Result<Output> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .env("PATH", search_path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let written = stdin.write_all(rules.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    // A program that failed before it read has said more about it than a broken pipe does.
    if output.status.success() {
        written?;
    }
    Ok(output)
}

/// Ordinary users often have no `sbin` in their path.
fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
