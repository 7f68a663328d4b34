//! Templates: built, listed, removed.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::BytesMut;
use futures::{FutureExt, TryStreamExt};
use serde::Deserialize;
use skerry_api::{Build, BuildList, BuildLogLine, StartBuild, Template, TemplatePage, Upload};
use skerry_control::{Attempt, BuildRequest, Caller, CreateRequest, Scope};
use skerry_types::{BuildId, limits};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{After, Json, Path, Query};
use crate::once::Once;
use crate::{App, body, check, convert, sse};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_templates))
        .routes(routes!(get_template, remove_template))
        .routes(routes!(start_build, list_builds))
        .routes(routes!(get_build))
        .routes(routes!(stream_build_log))
        .routes(routes!(cancel_build))
        .routes(routes!(get_upload, put_upload))
}

/// Which page of templates.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct ListTemplates {
    /// Where the last page ended.
    cursor: Option<String>,
    /// 1 to 200; 50 unless given.
    limit: Option<u32>,
}

/// List templates, newest first.
#[utoipa::path(
    get, path = "/v1/templates", tag = "templates", params(ListTemplates),
    responses((status = 200, body = TemplatePage))
)]
async fn list_templates(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListTemplates>,
) -> Answer<Json<TemplatePage>> {
    caller.require(Scope::SandboxRead)?;
    let page = app.control.templates(&caller, query.cursor, query.limit);
    let page = page.await?;
    Ok(Json(TemplatePage {
        templates: page.templates.into_iter().map(convert::template).collect(),
        next_cursor: page.next_cursor,
    }))
}

/// Look at a template, by id or name.
#[utoipa::path(
    get, path = "/v1/templates/{reference}", tag = "templates",
    params(("reference" = String, Path)), responses((status = 200, body = Template))
)]
async fn get_template(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<Template>> {
    caller.require(Scope::SandboxRead)?;
    let found = app.control.template(&caller, &reference).await?;
    Ok(Json(convert::template(found)))
}

/// Remove a template with all its tags, by id or name. Sandboxes that were made from it live on; a conflict while it is being built.
#[utoipa::path(
    delete, path = "/v1/templates/{reference}", tag = "templates",
    params(("reference" = String, Path)), responses((status = 204))
)]
async fn remove_template(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxWrite)?;
    app.control.delete_template(&caller, &reference).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Build a template, `name` or `name:tag`, which need not exist before. Answers at once; the log tells the rest.
#[utoipa::path(
    post, path = "/v1/templates/{reference}/builds", tag = "templates",
    params(("reference" = String, Path)), request_body = StartBuild,
    responses((status = 202, body = Build))
)]
async fn start_build(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
    once: Once,
    Json(request): Json<StartBuild>,
) -> Answer<Response> {
    caller.require(Scope::SandboxCreate)?;
    request.login.as_ref().map_or(Ok(()), check::login)?;
    let work = {
        let (app, caller, request) = (app.clone(), caller.clone(), request.clone());
        move |attempt: Attempt| {
            async move {
                let id = BuildId::from_uuid(attempt.id);
                let earlier = attempt.earlier(app.control.build(&caller, &reference, id));
                let build = if let Some(build) = earlier.await? {
                    build
                } else {
                    let request = asked(id, reference, request);
                    app.control.start_build(&caller, request).await?
                };
                Ok((StatusCode::ACCEPTED, convert::build(build)))
            }
            .boxed()
        }
    };
    once.run(&app, &caller, &request, work).await
}

fn asked(id: BuildId, name: String, request: StartBuild) -> BuildRequest {
    BuildRequest {
        id: Some(id),
        name,
        tags: request.tags,
        recipe: request.recipe,
        fetch: request.fetch,
        login: request.login.map(|login| (login.username, login.password)),
        no_cache: request.no_cache,
        setup: CreateRequest {
            profile: request.profile,
            vcpus: request.vcpus,
            memory_mb: request.memory_mb,
            disk_mb: request.disk_mb,
            network: request.network,
            privilege: request.privilege,
            driver: request.driver,
            ..CreateRequest::default()
        },
    }
}

/// List the latest builds of a template, newest first.
#[utoipa::path(
    get, path = "/v1/templates/{reference}/builds", tag = "templates",
    params(("reference" = String, Path)), responses((status = 200, body = BuildList))
)]
async fn list_builds(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(reference): Path<String>,
) -> Answer<Json<BuildList>> {
    caller.require(Scope::SandboxRead)?;
    let builds = app.control.builds(&caller, &reference).await?;
    let builds = builds.into_iter().map(convert::build).collect();
    Ok(Json(BuildList { builds }))
}

/// Look at a build.
#[utoipa::path(
    get, path = "/v1/templates/{reference}/builds/{build_id}", tag = "templates",
    params(("reference" = String, Path), ("build_id" = String, Path)),
    responses((status = 200, body = Build))
)]
async fn get_build(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((reference, id)): Path<(String, BuildId)>,
) -> Answer<Json<Build>> {
    caller.require(Scope::SandboxRead)?;
    let build = app.control.build(&caller, &reference, id).await?;
    Ok(Json(convert::build(build)))
}

fn frame(out: &mut BytesMut, line: &BuildLogLine) {
    sse::begin(out, line.seq);
    crate::json::value(out, line);
    sse::end(out);
}

/// Follow a build's log as server-sent events, to its end; also after it.
#[utoipa::path(
    get, path = "/v1/templates/{reference}/builds/{build_id}/logs", tag = "templates",
    params(
        ("reference" = String, Path), ("build_id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last line that the reader has."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; goes before `after`."),
    ),
    responses((status = 200, body = BuildLogLine, content_type = "text/event-stream"))
)]
async fn stream_build_log(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((reference, id)): Path<(String, BuildId)>,
    After(after): After,
) -> Answer<Response> {
    caller.require(Scope::SandboxRead)?;
    let lines = app.control.build_log(&caller, &reference, id, after, true);
    let lines = lines.await?.map_ok(convert::build_log_line);
    Ok(sse::response(Box::pin(lines), &app.draining, frame))
}

/// Call a build off. Answers when it has ended.
#[utoipa::path(
    post, path = "/v1/templates/{reference}/builds/{build_id}/cancel", tag = "templates",
    params(("reference" = String, Path), ("build_id" = String, Path)),
    responses((status = 200, body = Build))
)]
async fn cancel_build(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path((reference, id)): Path<(String, BuildId)>,
) -> Answer<Json<Build>> {
    caller.require(Scope::SandboxWrite)?;
    let build = app.control.cancel_build(&caller, &reference, id).await?;
    Ok(Json(convert::build(build)))
}

/// Ask whether an archive for builds is there. Its name is the SHA-256 of its bytes.
#[utoipa::path(
    get, path = "/v1/uploads/{hash}", tag = "templates", params(("hash" = String, Path)),
    responses((status = 200, body = Upload))
)]
async fn get_upload(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(hash): Path<String>,
) -> Answer<Json<Upload>> {
    caller.require(Scope::SandboxRead)?;
    let present = app.control.has_upload(&caller, &hash)?;
    Ok(Json(Upload { present }))
}

/// Upload a tar archive that builds copy from. It goes when no build used it for a day.
#[utoipa::path(
    put, path = "/v1/uploads/{hash}", tag = "templates", params(("hash" = String, Path)),
    request_body(content = Vec<u8>, content_type = "application/x-tar"),
    responses((status = 204))
)]
async fn put_upload(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(hash): Path<String>,
    headers: HeaderMap,
    content: Body,
) -> Answer<StatusCode> {
    caller.require(Scope::SandboxCreate)?;
    let archive = body::upload(&app, &headers, content, limits::MAX_ARCHIVE_BYTES)?;
    app.control.upload(&caller, &hash, archive, true).await?;
    Ok(StatusCode::NO_CONTENT)
}
