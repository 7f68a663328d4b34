//! Sandboxes as these clients get to see them.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use skerry_control::{Caller, OnTimeout, Sandbox, Scope};
use skerry_http::ports::Way;
use skerry_types::{Error, Result, SandboxId, SandboxState};

use super::Api;
use super::network::{Shown, has_internet};
use crate::token;

/// What we say the program in the sandbox is: clients use what it had in that version, and nothing later.
pub(super) const ENVD_VERSION: &str = "0.6.13";
/// Early clients say it again behind the id.
const CLIENT: &str = "skerry";

/// How to use a sandbox.
#[derive(Debug, Serialize)]
pub(super) struct Access {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(rename = "clientID")]
    client_id: &'static str,
    #[serde(rename = "envdVersion")]
    envd_version: &'static str,
    #[serde(rename = "envdAccessToken")]
    envd_access_token: Option<String>,
    #[serde(rename = "trafficAccessToken")]
    traffic_access_token: Option<String>,
    domain: Option<String>,
}

/// A sandbox in a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    #[serde(rename = "templateID")]
    template_id: String,
    #[serde(rename = "sandboxID")]
    sandbox_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(rename = "clientID")]
    client_id: &'static str,
    started_at: Timestamp,
    end_at: Timestamp,
    cpu_count: u32,
    #[serde(rename = "memoryMB")]
    memory_mb: u32,
    #[serde(rename = "diskSizeMB")]
    disk_size_mb: u32,
    state: &'static str,
    envd_version: &'static str,
    metadata: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Serialize)]
struct VolumeMount {
    name: String,
    path: String,
}

/// All of a sandbox.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detail {
    #[serde(flatten)]
    listed: Listed,
    envd_access_token: Option<String>,
    domain: Option<String>,
    allow_internet_access: bool,
    network: Shown,
    lifecycle: Lifecycle,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_mode: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Lifecycle {
    auto_resume: bool,
    on_timeout: &'static str,
}

impl Api {
    /// The sandbox, if these clients may see it: to them one that has ended is not there, nor is one that is not made yet.
    pub(super) async fn find(
        &self,
        caller: &Caller,
        scope: Scope,
        id: SandboxId,
    ) -> Result<Sandbox> {
        caller.require(scope)?;
        let found = self.control().get(caller, id).await?;
        match found.status {
            SandboxState::Running | SandboxState::Paused => Ok(found),
            _ => Err(gone(id)),
        }
    }

    pub(super) fn access(&self, caller: &Caller, sandbox: &Sandbox, way: &Way) -> Access {
        let may = caller.may_enter();
        Access {
            template_id: template_of(sandbox),
            alias: sandbox.template.clone(),
            sandbox_id: sandbox.id.label(),
            client_id: CLIENT,
            envd_version: ENVD_VERSION,
            envd_access_token: may.then(|| token::envd(self.control(), sandbox.id)),
            traffic_access_token: may.then(|| token::traffic(self.control(), sandbox.id)),
            domain: way.domain.clone(),
        }
    }

    pub(super) fn detail(&self, caller: &Caller, sandbox: Sandbox, way: Way) -> Detail {
        let may = caller.may_enter();
        let pauses = sandbox.on_timeout == OnTimeout::Pause;
        Detail {
            envd_access_token: may.then(|| token::envd(self.control(), sandbox.id)),
            domain: way.domain,
            allow_internet_access: has_internet(&sandbox),
            network: Shown::of(&sandbox),
            lifecycle: Lifecycle {
                auto_resume: sandbox.auto_resume,
                on_timeout: if pauses { "pause" } else { "kill" },
            },
            pause_mode: (sandbox.status == SandboxState::Paused).then_some("full"),
            listed: listed(sandbox),
        }
    }
}

/// The template by its name; a snapshot or an image is one to these clients too.
fn template_of(sandbox: &Sandbox) -> String {
    sandbox.template.as_ref().unwrap_or(&sandbox.image).clone()
}

/// There is no such sandbox, as far as these clients are concerned.
pub(super) fn gone(id: SandboxId) -> Error {
    Error::not_found(format_args!("sandbox {}", id.label()))
}

pub(super) fn listed(sandbox: Sandbox) -> Listed {
    let started = sandbox.started_at.unwrap_or(sandbox.created_at);
    let age = SignedDuration::from_secs(sandbox.ttl_seconds.try_into().unwrap_or(i64::MAX));
    let running = sandbox.status == SandboxState::Running;
    Listed {
        template_id: template_of(&sandbox),
        alias: sandbox.template,
        sandbox_id: sandbox.id.label(),
        client_id: CLIENT,
        started_at: started,
        end_at: sandbox
            .expires_at
            .unwrap_or_else(|| started.saturating_add(age).unwrap_or(Timestamp::MAX)),
        cpu_count: sandbox.resources.vcpus,
        memory_mb: sandbox.resources.memory_mb,
        disk_size_mb: sandbox.resources.disk_mb,
        state: if running { "running" } else { "paused" },
        envd_version: ENVD_VERSION,
        metadata: sandbox.metadata,
        volume_mounts: (sandbox.volumes.into_iter())
            .map(|mounted| VolumeMount {
                name: mounted.name,
                path: mounted.path,
            })
            .collect(),
    }
}
