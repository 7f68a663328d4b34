//! What a sandbox reaches and who reaches it, as these clients ask for it. What cannot be enforced is refused.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use skerry_control::{Caller, Sandbox, Scope};
use skerry_http::{Answer, Json, Path};
use skerry_types::egress::EVERYTHING;
use skerry_types::{Egress, Error, Result};

use super::Api;
use super::id::Named;

/// All that these clients call all traffic, but which no sandbox has.
const EVERYTHING_IPV6: &str = "::/0";
const NONE: &str = "none";

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

    /// The rules that are asked for.
    fn egress(&self, internet: Option<bool>) -> Result<Egress> {
        self.refuse()?;
        let mut allowed = self.allow_out.clone().unwrap_or_default();
        // There is nothing there that could be allowed.
        allowed.retain(|entry| entry != EVERYTHING_IPV6);
        let mut denied = self.deny_out.clone().unwrap_or_default();
        if internet == Some(false) {
            denied.push(EVERYTHING.to_owned());
        }
        let read = Egress::new(&allowed, &denied);
        let egress = read.map_err(|error| Error::validation(format!("network: {error}")))?;
        if egress.names_any() && !egress.denies_everything() {
            return Err(Error::validation(
                "network: a domain in allowOut allows nothing that is not allowed anyway, unless denyOut has all traffic",
            )
            .with_hint("add 0.0.0.0/0 to denyOut"));
        }
        Ok(egress)
    }

    /// For a new sandbox: the network that its rules take, and them. Where the server gives no way out by itself, one that is to have none needs
    /// neither.
    pub(super) fn for_new(
        &self,
        internet: Option<bool>,
        default: &str,
    ) -> Result<(Option<String>, Option<Egress>)> {
        let egress = self.egress(internet)?;
        let needs_none = default == NONE && egress.opens_nothing();
        if egress.is_empty() || needs_none {
            return Ok((None, None));
        }
        Ok((Some("nat".to_owned()), Some(egress)))
    }

    fn refuse(&self) -> Result<()> {
        let mask = self.mask_request_host.as_deref().unwrap_or_default();
        let rules = self.rules.as_ref();
        for (field, is_asked) in [
            ("dnsServers", is_some(self.dns_servers.as_deref())),
            ("egressProxy", self.egress_proxy.is_some()),
            ("maskRequestHost", !mask.is_empty()),
            ("httpsPorts", is_some(self.https_ports.as_deref())),
            ("rules", rules.is_some_and(|rules| !rules.is_empty())),
        ] {
            if is_asked {
                let text = format!("network.{field}: this server cannot enforce it");
                return Err(Error::unsupported(text)
                    .with_hint("it enforces allowOut, denyOut and allowPublicTraffic"));
            }
        }
        Ok(())
    }
}

/// What a sandbox has of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    allow_out: Vec<String>,
    deny_out: Vec<String>,
    allow_public_traffic: bool,
}

impl Shown {
    pub(super) fn of(sandbox: &Sandbox) -> Self {
        Self {
            allow_out: sandbox.egress.allow(),
            deny_out: sandbox.egress.deny(),
            allow_public_traffic: sandbox.public_ports,
        }
    }
}

/// Whether it reaches anything but what it is allowed by name.
pub(super) fn has_internet(sandbox: &Sandbox) -> bool {
    sandbox.network != NONE && !sandbox.egress.denies_everything()
}

/// New rules for a sandbox that lives. What is left out is lifted.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Update {
    allow_internet_access: Option<bool>,
    #[serde(flatten)]
    network: Network,
}

/// New rules, at once. One that was made without a network keeps to that.
pub(super) async fn update(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    Json(asked): Json<Update>,
) -> Answer<StatusCode> {
    let found = api.find(&caller, Scope::SandboxWrite, id).await?;
    let egress = asked.network.egress(asked.allow_internet_access)?;
    if found.network != NONE {
        api.control().set_egress(&caller, id, egress).await?;
    } else if !egress.opens_nothing() {
        let text = "network: the sandbox was made without one, so there is nothing to rule";
        return Err(Error::conflict(text).into());
    }
    Ok(StatusCode::NO_CONTENT)
}

fn is_some<T>(list: Option<&[T]>) -> bool {
    list.is_some_and(|list| !list.is_empty())
}
