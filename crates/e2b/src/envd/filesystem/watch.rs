//! Watching a directory: as a stream, or as a watcher that is asked from time to time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::BytesMut;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parking_lot::Mutex;
use serde_json::json;
use skerry_http::App;
use skerry_proto::node::FileChange;
use skerry_types::{Result, SandboxId};
use tokio::time::Instant;
use uuid::Uuid;

use super::message::{EntryInfo, Event, Events, Watch, Watcher, event_kind};
use crate::envd::connect::{Answer, Code, Empty, Opening, Refusal, Unary, put};
use crate::envd::inside::Inside;
use crate::envd::stream::{Terms, Words, refused, response};
use crate::frame;

/// Watchers of one sandbox.
const MOST_OF_ONE: usize = 32;
/// Watchers of all.
const MOST: usize = 4096;
/// Events in one answer; what waits beyond is told by the next.
const MOST_EVENTS: usize = 4096;
/// One that nobody has asked for so long is forgotten.
const IDLE: Duration = Duration::from_hours(1);

/// Tells of changes for as long as the client listens.
pub(super) async fn watch_dir(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
    headers: HeaderMap,
    Opening(request): Opening<Watch>,
) -> Response {
    let opened = async { Watched::open(inside, request?).await };
    match opened.await {
        Ok((watched, changes)) => {
            let watched = Arc::new(watched);
            let events = changes.then(move |change| {
                let watched = watched.clone();
                async move { watched.event(change?).await }
            });
            let words = Words {
                start: r#"{"start":{}}"#.to_owned(),
                keep_alive: r#"{"keepalive":{}}"#,
                write,
            };
            response(events.boxed(), words, Terms::of(&headers), &app.ending())
        }
        Err(refusal) => refused(&refusal),
    }
}

fn write(out: &mut BytesMut, event: &Event) {
    frame::message(out, |out| put(out, &json!({ "filesystem": event })));
}

type Changes = BoxStream<'static, Result<FileChange>>;

/// A directory that is watched, and for whom.
#[derive(Debug, Clone)]
struct Watched {
    inside: Inside,
    folder: String,
    with_entry: bool,
}

impl Watched {
    async fn open(inside: Inside, request: Watch) -> Result<(Self, Changes), Refusal> {
        let folder = inside.path(&request.path).await?;
        inside.folder(&folder).await?;
        let changes = inside
            .node
            .watch_files(inside.sandbox, &folder, request.recursive)
            .await?;
        let watched = Self {
            inside,
            folder,
            with_entry: request.include_entry,
        };
        Ok((watched, changes))
    }

    async fn event(&self, change: FileChange) -> Result<Event, Refusal> {
        let Some(kind) = event_kind(change.change) else {
            let message = "changes came faster than they could be told; look again";
            return Err(Refusal::new(Code::ResourceExhausted, message));
        };
        let entry = if self.with_entry {
            self.inside.look(&change.path).await?.map(EntryInfo::of)
        } else {
            None
        };
        let name = change.path.strip_prefix(self.folder.trim_end_matches('/'));
        let name = name.unwrap_or(&change.path).trim_start_matches('/');
        Ok(Event {
            name: if name.is_empty() { "." } else { name }.to_owned(),
            kind,
            entry,
        })
    }
}

/// The watchers that clients ask from time to time. What has changed waits at the node, which bounds it.
#[derive(Default)]
pub(super) struct Watchers(Mutex<HashMap<(SandboxId, String), Waiting>>);

struct Waiting {
    watched: Watched,
    changes: Changes,
    asked_at: Instant,
}

impl Watchers {
    fn insert(&self, app: &App, watched: Watched, changes: Changes) -> Result<String, Refusal> {
        let mut all = self.0.lock();
        let sandbox = watched.inside.sandbox;
        all.retain(|(of, _), waiting| {
            waiting.asked_at.elapsed() < IDLE && app.control().inside(*of).is_some()
        });
        let of_this = all.keys().filter(|(of, _)| *of == sandbox).count();
        if of_this >= MOST_OF_ONE || all.len() >= MOST {
            let message =
                format!("{MOST_OF_ONE} watchers are there already, the most there may be");
            return Err(Refusal::new(Code::ResourceExhausted, message));
        }
        let id = Uuid::now_v7().simple().to_string();
        let waiting = Waiting {
            watched,
            changes,
            asked_at: Instant::now(),
        };
        all.insert((sandbox, id.clone()), waiting);
        Ok(id)
    }

    /// What has changed since the last time.
    fn take(&self, key: &(SandboxId, String)) -> Option<(Watched, Vec<Result<FileChange>>)> {
        let mut all = self.0.lock();
        let waiting = all.get_mut(key)?;
        waiting.asked_at = Instant::now();
        let mut changes = Vec::new();
        while changes.len() < MOST_EVENTS {
            match waiting.changes.next().now_or_never() {
                Some(Some(change)) => changes.push(change),
                Some(None) if changes.is_empty() => {
                    all.remove(key);
                    return None;
                }
                None | Some(None) => break,
            }
        }
        Some((waiting.watched.clone(), changes))
    }
}

pub(super) async fn create(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
    Extension(watchers): Extension<Arc<Watchers>>,
    Unary(request): Unary<Watch>,
) -> Answer<Watcher> {
    let (watched, changes) = Watched::open(inside, request).await?;
    let watcher_id = watchers.insert(&app, watched, changes)?;
    Ok(Json(Watcher { watcher_id }))
}

pub(super) async fn events(
    Extension(inside): Extension<Inside>,
    Extension(watchers): Extension<Arc<Watchers>>,
    Unary(request): Unary<Watcher>,
) -> Answer<Events> {
    let taken = watchers.take(&(inside.sandbox, request.watcher_id));
    let Some((watched, changes)) = taken else {
        return Err(Refusal::new(Code::NotFound, "there is no such watcher"));
    };
    let mut events = Vec::new();
    for change in changes {
        events.push(watched.event(change?).await?);
    }
    Ok(Json(Events { events }))
}

pub(super) async fn remove(
    Extension(inside): Extension<Inside>,
    Extension(watchers): Extension<Arc<Watchers>>,
    Unary(request): Unary<Watcher>,
) -> Answer<Empty> {
    let key = (inside.sandbox, request.watcher_id);
    match watchers.0.lock().remove(&key) {
        Some(_) => Ok(Json(Empty {})),
        None => Err(Refusal::new(Code::NotFound, "there is no such watcher")),
    }
}
