//! What a sandbox reaches and who reaches it, as these clients ask for it. What cannot be enforced is refused.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skerry_control::{Caller, Scope};
use skerry_http::{Answer, Json, Path};
use skerry_types::{Error, Result};

use super::Api;
use super::id::Named;

/// Every address.
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

/// The `network` of a request. What is left out, null or empty asks for nothing.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Network {
    allow_out: Option<Vec<String>>,
    deny_out: Option<Vec<String>>,
    dns_servers: Option<Vec<String>>,
    egress_proxy: Option<Value>,
    allow_public_traffic: Option<bool>,
    mask_request_host: Option<String>,
    https_ports: Option<Vec<u16>>,
    rules: Option<Map<String, Value>>,
}

impl Network {
    /// Whether everybody may reach what listens in it.
    pub(super) fn is_public(&self) -> bool {
        self.allow_public_traffic != Some(false)
    }

    /// `nat` or `none`, or neither where nothing was asked for.
    pub(super) fn name(&self, internet: Option<bool>) -> Result<Option<String>> {
        for (field, is_asked) in [
            ("dnsServers", is_some(self.dns_servers.as_deref())),
            ("egressProxy", self.egress_proxy.is_some()),
            (
                "maskRequestHost",
                self.mask_request_host
                    .as_ref()
                    .is_some_and(|mask| !mask.is_empty()),
            ),
            ("httpsPorts", is_some(self.https_ports.as_deref())),
            (
                "rules",
                self.rules.as_ref().is_some_and(|rules| !rules.is_empty()),
            ),
        ] {
            if is_asked {
                return Err(refuse(field));
            }
        }
        let allowed = self.allow_out.as_deref().unwrap_or_default();
        let denied = self.deny_out.as_deref().unwrap_or_default();
        let all = |list: &[String]| list.iter().all(|one| ALL.contains(&one.as_str()));
        match (allowed, denied) {
            // What is allowed goes before what is denied.
            (allowed, _) if !allowed.is_empty() && all(allowed) => Ok(Some("nat".to_owned())),
            ([], []) => Ok(internet.map(|yes| if yes { "nat" } else { "none" }.to_owned())),
            ([], denied) if all(denied) => Ok(Some("none".to_owned())),
            ([], _) => Err(refuse("denyOut")),
            _ => Err(refuse("allowOut")),
        }
    }
}

/// New rules for a sandbox that lives. What is left out is lifted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Update {
    allow_internet_access: Option<bool>,
    #[serde(flatten)]
    network: Network,
}

/// A sandbox keeps the network that it was made with: the same again is fine, another is refused.
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    Json(asked): Json<Update>,
) -> Answer<StatusCode> {
    let found = api.find(&caller, Scope::SandboxWrite, id).await?;
    let wanted = asked.network.name(asked.allow_internet_access)?;
    if wanted.as_deref().unwrap_or("nat") != found.network {
        let text = "network: this server cannot change the network of a sandbox that runs";
        return Err(Error::unsupported(text).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

fn is_some<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}

fn refuse(field: &str) -> Error {
    let text = format!("network.{field}: this server cannot enforce it");
    Error::unsupported(text).with_hint("a sandbox reaches the internet or nothing")
}
