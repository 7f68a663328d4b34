//! Volumes: folders that outlive sandboxes.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::{Deserialize, Serialize};
use skerry_control::{Attempt, Caller, Scope, Volume, VolumeRequest};
use skerry_http::{Answer, Json, Once, Path};
use skerry_types::{Result, VolumeId, limits};

use super::Api;
use crate::token;

/// A volume to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NewVolume {
    name: String,
}

/// A volume in a list.
#[derive(Debug, Serialize)]
pub(super) struct Listed {
    #[serde(rename = "volumeID")]
    volume_id: String,
    name: String,
}

/// A volume, and what opens it.
#[derive(Debug, Serialize)]
pub(super) struct Opened {
    #[serde(flatten)]
    listed: Listed,
    token: String,
}

fn listed(volume: Volume) -> Listed {
    Listed {
        volume_id: volume.id.label(),
        name: volume.name,
    }
}

impl Api {
    fn opened(&self, volume: Volume) -> Opened {
        Opened {
            token: token::volume(self.control(), volume.id),
            listed: listed(volume),
        }
    }
}

/// A token opens all of the content.
fn may_have_token(caller: &Caller) -> Result<()> {
    caller.require(Scope::FileRead)?;
    caller.require(Scope::FileWrite)
}

pub(super) async fn create(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    once: Once,
    Json(asked): Json<NewVolume>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    may_have_token(&caller)?;
    let work = {
        let (api, caller, asked) = (api.clone(), caller.clone(), asked.clone());
        move |attempt: Attempt| {
            async move {
                let id = VolumeId::from_uuid(attempt.id);
                let reference = id.to_string();
                let earlier = attempt.earlier(api.control().volume(&caller, &reference));
                let volume = if let Some(made) = earlier.await? {
                    made
                } else {
                    let request = VolumeRequest {
                        id: Some(id),
                        name: asked.name,
                        size_mb: None,
                    };
                    api.control().create_volume(&caller, request).await?.0
                };
                Ok((StatusCode::CREATED, api.opened(volume)))
            }
            .boxed()
        }
    };
    once.run(&api.app, &caller, &asked, work).await
}

/// All of them: these clients know no pages of volumes, and there are few.
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<Vec<Listed>>> {
    caller.require(Scope::SandboxRead)?;
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let limit = Some(limits::MAX_PAGE);
        let page = api.control().volumes(&caller, cursor, limit).await?;
        all.extend(page.volumes.into_iter().map(listed));
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(Json(all));
        }
    }
}

pub(super) async fn get(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<VolumeId>,
) -> Answer<Json<Opened>> {
    may_have_token(&caller)?;
    Ok(Json(api.opened(find(&api, &caller, id).await?)))
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<VolumeId>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    let reference = id.to_string();
    api.control().remove_volume(&caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(api: &Api, caller: &Caller, id: VolumeId) -> Result<Volume> {
    api.control().volume(caller, &id.to_string()).await
}
