//! Folders that outlive sandboxes.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use axum::response::Response;
use futures::FutureExt;
use serde::Deserialize;
use skerry_api::{CreateVolume, Volume, VolumePage};
use skerry_control::{Attempt, Caller, Scope, VolumeRequest};
use skerry_types::VolumeId;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::once::Once;
use crate::{App, convert};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create_volume, list_volumes))
        .routes(routes!(get_volume, remove_volume))
}

/// Make a volume. Sandboxes get it by `volumes` when they are made.
#[utoipa::path(
    post, path = "/v1/volumes", tag = "volumes", request_body = CreateVolume,
    responses((status = 201, body = Volume))
)]
async fn create_volume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    once: Once,
    Json(request): Json<CreateVolume>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let id = VolumeId::from_uuid(attempt.id);
                let reference = id.to_string();
                let earlier = attempt.earlier(app.control.look_at_volume(&caller, &reference));
                let made = if let Some(made) = earlier.await? {
                    made
                } else {
                    let request = VolumeRequest {
                        id: Some(id),
                        name: request.name,
                        size_mb: request.size_mb,
                    };
                    app.control.create_volume(&caller, request).await?
                };
                Ok((StatusCode::CREATED, convert::volume(made.0, Some(made.1))))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

/// Which page of volumes.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListVolumes {
    /// Where the last page ended.
    cursor: Option<String>,
    /// 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// List volumes, newest first.
#[utoipa::path(
    get, path = "/v1/volumes", tag = "volumes", params(ListVolumes),
    responses((status = 200, body = VolumePage))
)]
async fn list_volumes(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListVolumes>,
) -> Answer<Json<VolumePage>> {
    caller.require(Scope::SandboxRead)?;
    let page = app.control.volumes(&caller, query.cursor, query.limit);
    let page = page.await?;
    let volumes = page.volumes.into_iter();
    Ok(Json(VolumePage {
        volumes: volumes
            .map(|volume| convert::volume(volume, None))
            .collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Look at a volume, by id or name.
#[utoipa::path(
    get, path = "/v1/volumes/{reference}", tag = "volumes",
    params(("reference" = String, Path)), responses((status = 200, body = Volume))
)]
async fn get_volume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Volume>> {
    caller.require(Scope::SandboxRead)?;
    let (volume, report) = app.control.look_at_volume(&caller, &reference).await?;
    Ok(Json(convert::volume(volume, Some(report))))
}

/// Remove a volume with all in it, by id or name. One that a sandbox has, stopped or not, is a conflict.
#[utoipa::path(
    delete, path = "/v1/volumes/{reference}", tag = "volumes",
    params(("reference" = String, Path)), responses((status = 204))
)]
async fn remove_volume(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    app.control.remove_volume(&caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}
