//! Making a sandbox, in both generations.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use skerry_control::{
    Attempt, Caller, CreateRequest, OnTimeout, Sandbox, Scope, Until, VolumeWish,
};
use skerry_http::ports::Way;
use skerry_http::{Answer, Json, Once};
use skerry_types::{Error, ErrorCode, Result, SandboxId, SandboxState};

use super::Api;
use super::id::plain_name;
use super::network::Network;

/// Seconds of life unless asked otherwise, of the first generation and the second.
const TIMEOUT: [u64; 2] = [15, 300];
/// Seconds to wait for a place: clients give up after 60.
const QUEUE_SECONDS: u64 = 20;
/// The same with the time to make it.
const PATIENCE: Duration = Duration::from_secs(50);

/// What is asked for. Unknown fields are of clients newer than this.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewSandbox {
    #[serde(rename = "templateID")]
    template_id: String,
    timeout: Option<u64>,
    auto_pause: Option<bool>,
    auto_pause_memory: Option<bool>,
    auto_resume: Option<AutoResume>,
    metadata: Option<BTreeMap<String, String>>,
    env_vars: Option<BTreeMap<String, String>>,
    #[serde(rename = "allow_internet_access")]
    allow_internet_access: Option<bool>,
    network: Option<Network>,
    mcp: Option<Value>,
    iam: Option<Value>,
    volume_mounts: Option<Vec<VolumeMount>>,
}

/// A volume by its name, and where it is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct VolumeMount {
    name: String,
    path: String,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
struct AutoResume {
    enabled: bool,
}

pub(super) async fn create_v1(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    way: Way,
    once: Once,
    Json(asked): Json<NewSandbox>,
) -> Answer<Response> {
    create(api, caller, way, once, asked, TIMEOUT[0]).await
}

pub(super) async fn create_v2(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    way: Way,
    once: Once,
    Json(asked): Json<NewSandbox>,
) -> Answer<Response> {
    create(api, caller, way, once, asked, TIMEOUT[1]).await
}

async fn create(
    api: Api,
    caller: Caller,
    way: Way,
    once: Once,
    asked: NewSandbox,
    timeout: u64,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let work = {
        let (api, caller, asked) = (api.clone(), caller.clone(), asked.clone());
        move |attempt: Attempt| {
            async move {
                let control = api.control();
                let earlier = attempt.earlier_sandbox(control, &caller);
                let made = if let Some(made) = earlier.await? {
                    made
                } else {
                    let id = SandboxId::from_uuid(attempt.id);
                    let mut asked = asked;
                    asked.template_id = api.source(&caller, asked.template_id).await?;
                    let asked = asked.request(id, timeout, control.default_network())?;
                    control.create(&caller, asked).await?
                };
                let made = running(&api, &caller, made).await?;
                Ok((StatusCode::CREATED, api.access(&caller, &made, &way)))
            }
            .boxed()
        }
    };
    once.run(&api.app, &caller, &asked, work).await
}

impl Api {
    /// A template or snapshot by the name that it has here; what is neither may be an image.
    async fn source(&self, caller: &Caller, asked: String) -> Result<String> {
        let name = plain_name(&asked);
        if !asked.contains('/') {
            return Ok(name);
        }
        let mut found = self.control().template(caller, &name).await.map(drop);
        if found.as_ref().is_err_and(is_missing) {
            found = self.control().snapshot(caller, &name).await.map(drop);
        }
        match found {
            Err(error) if is_missing(&error) => Ok(asked),
            found => found.map(|()| name),
        }
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    error.code == ErrorCode::NotFound
}

impl NewSandbox {
    fn request(self, id: SandboxId, timeout: u64, default_network: &str) -> Result<CreateRequest> {
        self.refuse()?;
        let pauses = self.auto_pause == Some(true);
        let asked = self.network.unwrap_or_default();
        let (network, egress) = asked.for_new(self.allow_internet_access, default_network)?;
        Ok(CreateRequest {
            id: Some(id),
            image: Some(self.template_id),
            env: self.env_vars.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
            ttl_seconds: Some(self.timeout.unwrap_or(timeout)),
            // Only time counts here, and nobody says that it is in use.
            idle_seconds: Some(0),
            on_timeout: Some(if pauses {
                OnTimeout::Pause
            } else {
                OnTimeout::Delete
            }),
            keep_paused: true,
            auto_resume: self.auto_resume.is_some_and(|auto| auto.enabled),
            queue_timeout_seconds: Some(QUEUE_SECONDS),
            public_ports: asked.is_public(),
            network,
            egress,
            volumes: (self.volume_mounts.unwrap_or_default().into_iter())
                .map(|mount| VolumeWish {
                    volume: mount.name,
                    path: mount.path,
                })
                .collect(),
            ..CreateRequest::default()
        })
    }

    fn refuse(&self) -> Result<()> {
        let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| !value.is_null());
        for (field, is_asked) in [
            ("mcp", given(&self.mcp)),
            ("iam", given(&self.iam)),
            (
                "autoPauseMemory: false",
                self.auto_pause_memory == Some(false),
            ),
        ] {
            if is_asked {
                return Err(Error::unsupported(format!(
                    "{field}: this server has no such thing"
                )));
            }
        }
        Ok(())
    }
}

/// The sandbox once it runs: clients use it as soon as they have the answer. One that does not come to run is removed.
async fn running(api: &Api, caller: &Caller, made: Sandbox) -> Result<Sandbox> {
    let control = api.control();
    let made = control
        .wait_until(caller, made.id, Until::Ready, PATIENCE)
        .await?;
    if made.status == SandboxState::Running {
        return Ok(made);
    }
    let why = match made.failure_message {
        Some(why) => Error::internal(why),
        None if made.status.is_ended() => {
            Error::new(ErrorCode::NoCapacity, "no node had room for it in time")
        }
        None => Error::new(
            ErrorCode::ServiceUnavailable,
            "it took too long to make the sandbox",
        ),
    };
    control.delete(caller, made.id).await?;
    Err(why)
}
