//! More names for what was built.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_control::{Caller, Scope};
use skerry_http::{Answer, Json, Path};

use super::Api;
use super::id::{plain_name, plain_tag, shown_tag};
use super::templates::build_id;

#[derive(Debug, Deserialize)]
pub(super) struct Assign {
    target: String,
    tags: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Assigned {
    #[serde(rename = "buildID")]
    build_id: String,
    tags: Vec<String>,
}

pub(super) async fn assign(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<Assign>,
) -> Answer<(StatusCode, Json<Assigned>)> {
    caller.require(Scope::SandboxWrite)?;
    let target = plain_name(&asked.target);
    let tags: Vec<_> = asked.tags.iter().cloned().map(plain_tag).collect();
    let build = api.control().tag_template(&caller, &target, &tags);
    let body = Assigned {
        build_id: build_id(&build.await?),
        tags: asked.tags,
    };
    Ok((StatusCode::CREATED, Json(body)))
}

#[derive(Debug, Deserialize)]
pub(super) struct Remove {
    name: String,
    tags: Vec<String>,
}

pub(super) async fn remove(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Json(asked): Json<Remove>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    let name = plain_name(&asked.name);
    let tags: Vec<_> = asked.tags.into_iter().map(plain_tag).collect();
    api.control().untag_template(&caller, &name, &tags).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tagged {
    tag: String,
    #[serde(rename = "buildID")]
    build_id: String,
    created_at: Timestamp,
}

pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Vec<Tagged>>> {
    caller.require(Scope::SandboxRead)?;
    let name = plain_name(&reference);
    let view = api.control().template(&caller, &name).await?;
    let tags = view.tags.into_iter().map(|tag| Tagged {
        tag: shown_tag(tag.tag),
        build_id: tag.build_id.uuid().to_string(),
        created_at: tag.created_at,
    });
    Ok(Json(tags.collect()))
}
