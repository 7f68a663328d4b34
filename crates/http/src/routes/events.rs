//! The record of a sandbox.

use axum::extract::{Extension, State};
use axum::response::Response;
use bytes::BytesMut;
use futures::{StreamExt, TryStreamExt};
use skerry_api::{Cursor, Event, EventPage};
use skerry_control::{Caller, Need, Scope};
use skerry_proto::node::JournalEvent;
use skerry_types::SandboxId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::error::Answer;
use crate::extract::{After, Json, Path, Query};
use crate::{App, check, convert, json, sse};

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list_events))
        .routes(routes!(stream_events))
}

/// List what happened in a sandbox, oldest first; also after it ended.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/events", tag = "events",
    params(("id" = String, Path), Cursor), responses((status = 200, body = EventPage))
)]
async fn list_events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    Query(query): Query<Cursor>,
) -> Answer<Json<EventPage>> {
    let node = app
        .node(&caller, Scope::SandboxRead, id, Need::Journal)
        .await?;
    let limit = check::limit(query.limit)? as usize;
    let after = check::number_cursor(query.cursor.as_deref())?;
    let found = node.events(id, after, false).await?;
    // One more than asked tells whether there is a next page.
    let mut events: Vec<JournalEvent> = found.take(limit + 1).try_collect().await?;
    let more = events.len() > limit;
    events.truncate(limit);
    let last = events.last().map(|event| event.seq.to_string());
    Ok(Json(EventPage {
        events: events.into_iter().map(convert::event).collect(),
        next_cursor: last.filter(|_| more),
    }))
}

fn frame(out: &mut BytesMut, event: &JournalEvent) {
    sse::begin(out, event.seq);
    json::value(out, event);
    sse::end(out);
}

/// Follow what happens in a sandbox as server-sent events, from the start or after an event; ends with the sandbox.
#[utoipa::path(
    get, path = "/v1/sandboxes/{id}/stream", tag = "events",
    params(
        ("id" = String, Path),
        ("after" = Option<u64>, Query, description = "The last event that the reader has."),
        ("Last-Event-ID" = Option<u64>, Header, description = "The same; goes before `after`."),
    ),
    responses((status = 200, body = Event, content_type = "text/event-stream"))
)]
async fn stream_events(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<SandboxId>,
    After(after): After,
) -> Answer<Response> {
    let node = app
        .node(&caller, Scope::SandboxRead, id, Need::Journal)
        .await?;
    let events = node.events(id, after, true).await?;
    Ok(sse::response(events, &app.draining, frame))
}
