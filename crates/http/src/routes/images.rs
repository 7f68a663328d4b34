//! What sandboxes start from.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::BytesMut;
use serde::Deserialize;
use skerry_api::{Image, ImageList, PullEvent, PullImage};
use skerry_control::{Caller, Scope};
use skerry_types::limits;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{Json, Path, Query};
use crate::{App, body, check, sse};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_images))
        .routes(routes!(get_image, remove_image))
        .routes(routes!(pull_image))
        .routes(routes!(import_image))
}

/// List the images on this machine.
#[utoipa::path(
    get, path = "/v1/images", tag = "images", responses((status = 200, body = ImageList))
)]
async fn list_images(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<ImageList>> {
    caller.require(Scope::SandboxRead)?;
    let images = app.images.list().await?;
    Ok(Json(ImageList { images }))
}

/// Look at an image. Slashes in its name are written as `%2F`.
#[utoipa::path(
    get, path = "/v1/images/{reference}", tag = "images", params(("reference" = String, Path)),
    responses((status = 200, body = Image))
)]
async fn get_image(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Image>> {
    caller.require(Scope::SandboxRead)?;
    Ok(Json(app.images.inspect(&reference).await?))
}

/// Remove an image; a conflict while a sandbox uses it.
#[utoipa::path(
    delete, path = "/v1/images/{reference}", tag = "images", params(("reference" = String, Path)),
    responses((status = 204))
)]
async fn remove_image(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    app.images.remove(&reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn frame(out: &mut BytesMut, event: &PullEvent) {
    sse::data(out, event);
}

/// Get an image and follow the progress as server-sent events. It goes on when the reader goes away.
#[utoipa::path(
    post, path = "/v1/images/pull", tag = "images", request_body = PullImage,
    responses((status = 200, body = PullEvent, content_type = "text/event-stream"))
)]
async fn pull_image(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Json(request): Json<PullImage>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    request.login.as_ref().map_or(Ok(()), check::login)?;
    let events = app.images.pull(caller.tenant.org(), request).await?;
    Ok(sse::response(events, &app.draining, frame))
}

/// Under which name to import.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct Import {
    /// The image's name from then on.
    reference: String,
}

/// Import an archive that `docker save` or an OCI tool wrote.
#[utoipa::path(
    post, path = "/v1/images/import", tag = "images", params(Import),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 201, body = Image))
)]
async fn import_image(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(Import { reference }): Query<Import>,
    headers: HeaderMap,
    content: Body,
) -> Answer<(StatusCode, Json<Image>)> {
    caller.require(Scope::SandboxCreate)?;
    let archive = body::upload(&app, &headers, content, limits::MAX_ARCHIVE_BYTES)?;
    let image = app.images.import(reference, archive).await?;
    Ok((StatusCode::CREATED, Json(image)))
}
