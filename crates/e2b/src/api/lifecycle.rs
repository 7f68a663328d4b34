//! What can be done to a sandbox while it lives.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use serde::Deserialize;
use skerry_control::{Caller, OnTimeout, Scope, TimeoutRequest};
use skerry_http::ports::Way;
use skerry_http::{Answer, Json, Path};
use skerry_types::{Error, SandboxId, SandboxState};

use super::Api;
use super::id::Named;
use super::shape::{Access, gone};

/// Seconds that a client of the second generation gets when it connects and names none.
const CONNECT_SECONDS: u64 = 300;
/// The same when an early client resumes.
const RESUME_SECONDS: u64 = 15;

/// Kills a sandbox. One that had ended by itself is not there.
pub(super) async fn delete(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    let found = api.control().get(&caller, id).await?;
    if found.status.is_ended() {
        return Err(gone(id).into());
    }
    api.control().delete(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(super) struct Timeout {
    timeout: u64,
}

pub(super) async fn timeout(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    Json(Timeout { timeout }): Json<Timeout>,
) -> Answer<StatusCode> {
    api.find(&caller, Scope::SandboxWrite, id).await?;
    api.set_end(&caller, id, timeout, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
pub(super) struct Refresh {
    duration: Option<u64>,
}

/// What early clients send to keep a sandbox: its end is never sooner than so many seconds from now.
pub(super) async fn refresh(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    body: Option<Json<Refresh>>,
) -> Answer<StatusCode> {
    api.find(&caller, Scope::SandboxWrite, id).await?;
    let asked = body.and_then(|Json(body)| body.duration);
    let seconds = asked.unwrap_or(RESUME_SECONDS);
    api.set_end(&caller, id, seconds, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Connect {
    timeout: Option<u64>,
    memory: Option<bool>,
    auto_pause: Option<bool>,
}

pub(super) async fn connect_v1(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    way: Way,
    Json(asked): Json<Connect>,
) -> Answer<(StatusCode, Json<Access>)> {
    let seconds = asked.timeout;
    let seconds = seconds.ok_or_else(|| Error::validation("timeout: must be given"))?;
    api.connect(&caller, id, seconds, &asked, &way).await
}

pub(super) async fn connect_v2(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    way: Way,
    body: Option<Json<Connect>>,
) -> Answer<(StatusCode, Json<Access>)> {
    let asked = body.unwrap_or_default().0;
    let seconds = asked.timeout.unwrap_or(CONNECT_SECONDS);
    api.connect(&caller, id, seconds, &asked, &way).await
}

/// What clients sent before they could connect: only a paused sandbox can be resumed.
pub(super) async fn resume(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    way: Way,
    body: Option<Json<Connect>>,
) -> Answer<(StatusCode, Json<Access>)> {
    let asked = body.unwrap_or_default().0;
    let found = api.find(&caller, Scope::SandboxWrite, id).await?;
    if found.status == SandboxState::Running {
        return Err(Error::conflict("the sandbox runs already").into());
    }
    let seconds = asked.timeout.unwrap_or(RESUME_SECONDS);
    api.connect(&caller, id, seconds, &asked, &way).await
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pause {
    memory: Option<bool>,
}

pub(super) async fn pause(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(Named(id)): Path<Named>,
    body: Option<Json<Pause>>,
) -> Answer<StatusCode> {
    let found = api.find(&caller, Scope::SandboxWrite, id).await?;
    if found.status == SandboxState::Paused {
        return Err(Error::conflict("the sandbox is paused already").into());
    }
    keeps_memory(body.and_then(|Json(body)| body.memory))?;
    api.control().pause(&caller, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A paused sandbox of ours always has its memory, and goes on with it.
fn keeps_memory(asked: Option<bool>) -> skerry_types::Result<()> {
    match asked {
        Some(false) => Err(Error::unsupported(
            "memory: false: this server pauses and resumes with memory only",
        )),
        _ => Ok(()),
    }
}

impl Api {
    /// Makes sure that a sandbox runs, and lives for so many seconds at least.
    async fn connect(
        &self,
        caller: &Caller,
        id: SandboxId,
        seconds: u64,
        asked: &Connect,
        way: &Way,
    ) -> Answer<(StatusCode, Json<Access>)> {
        let found = self.find(caller, Scope::SandboxWrite, id).await?;
        if found.status == SandboxState::Running {
            self.set_end(caller, id, seconds, true).await?;
            return Ok((StatusCode::OK, Json(self.access(caller, &found, way))));
        }
        keeps_memory(asked.memory)?;
        // Before it runs, so that it does not reach its end first.
        let times = TimeoutRequest {
            ttl_seconds: Some(seconds.max(1)),
            on_timeout: asked.auto_pause.map(on_timeout),
            ..TimeoutRequest::default()
        };
        self.control().set_timeout(caller, id, times).await?;
        let resumed = self.control().resume(caller, id).await?;
        Ok((
            StatusCode::CREATED,
            Json(self.access(caller, &resumed, way)),
        ))
    }

    /// An end that is now comes within a second, in the way it would have come.
    async fn set_end(
        &self,
        caller: &Caller,
        id: SandboxId,
        seconds: u64,
        only_longer: bool,
    ) -> Answer<()> {
        let times = TimeoutRequest {
            ttl_seconds: Some(seconds.max(1)),
            only_longer,
            ..TimeoutRequest::default()
        };
        self.control().set_timeout(caller, id, times).await?;
        Ok(())
    }
}

fn on_timeout(pauses: bool) -> OnTimeout {
    if pauses {
        OnTimeout::Pause
    } else {
        OnTimeout::Delete
    }
}
