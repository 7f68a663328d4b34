//! The filesystem service: what is there, and what changes.

mod message;
mod watch;

use std::sync::Arc;

use axum::extract::Extension;
use axum::routing::post;
use axum::{Json, Router};
use skerry_http::App;
use skerry_proto::node::{FileEntry, FileKind};

use self::message::{At, EntryInfo, Move, One, Several};
use self::watch::Watchers;
use super::connect::{Answer, Code, Empty, Refusal, Unary};
use super::inside::{Inside, absent_is_fine};

/// Entries of one page of the node's.
const PAGE: u32 = 1000;
/// Entries of one answer.
const MOST_ENTRIES: usize = 50_000;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/filesystem.Filesystem/Stat", post(stat))
        .route("/filesystem.Filesystem/MakeDir", post(make_dir))
        .route("/filesystem.Filesystem/Move", post(rename))
        .route("/filesystem.Filesystem/ListDir", post(list_dir))
        .route("/filesystem.Filesystem/Remove", post(remove))
        .route("/filesystem.Filesystem/WatchDir", post(watch::watch_dir))
        .route("/filesystem.Filesystem/CreateWatcher", post(watch::create))
        .route(
            "/filesystem.Filesystem/GetWatcherEvents",
            post(watch::events),
        )
        .route("/filesystem.Filesystem/RemoveWatcher", post(watch::remove))
        .layer(Extension(Arc::new(Watchers::default())))
}

async fn stat(Extension(inside): Extension<Inside>, Unary(at): Unary<At>) -> Answer<One> {
    let path = inside.path(&at.path).await?;
    inside.entry(&path).await
}

async fn make_dir(Extension(inside): Extension<Inside>, Unary(at): Unary<At>) -> Answer<One> {
    let path = inside.path(&at.path).await?;
    match inside.look(&path).await? {
        Some(found) if is_folder(&found) => {
            let message = format!("directory already exists: {path}");
            return Err(Refusal::new(Code::AlreadyExists, message));
        }
        Some(_) => {
            let message = format!("path already exists but it is not a directory: {path}");
            return Err(Refusal::invalid(message));
        }
        None => inside.make(&path).await?,
    }
    inside.entry(&path).await
}

async fn rename(Extension(inside): Extension<Inside>, Unary(request): Unary<Move>) -> Answer<One> {
    let from = inside.path(&request.source).await?;
    let to = inside.path(&request.destination).await?;
    if let Some((parent, _)) = to.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
        inside.make(parent).await?;
    }
    inside.node.move_file(inside.sandbox, &from, &to).await?;
    inside.entry(&to).await
}

async fn list_dir(Extension(inside): Extension<Inside>, Unary(at): Unary<At>) -> Answer<Several> {
    let path = inside.path(&at.path).await?;
    inside.folder(&path).await?;
    let (mut entries, mut after) = (Vec::new(), String::new());
    loop {
        let Inside { node, sandbox, .. } = &inside;
        let (page, more) = node
            .list_files(*sandbox, &path, at.depth.max(1), &after, PAGE)
            .await?;
        if let Some(last) = page.last() {
            after.clone_from(&last.path);
        }
        let is_over = !more || page.is_empty();
        entries.extend(page.into_iter().map(EntryInfo::of));
        if is_over {
            return Ok(Json(Several { entries }));
        }
        if entries.len() >= MOST_ENTRIES {
            let message = format!("there are more than {MOST_ENTRIES} entries; list less deep");
            return Err(Refusal::new(Code::ResourceExhausted, message));
        }
    }
}

/// Removes what is there, if there is something.
async fn remove(Extension(inside): Extension<Inside>, Unary(at): Unary<At>) -> Answer<Empty> {
    let path = inside.path(&at.path).await?;
    absent_is_fine(inside.node.remove(inside.sandbox, &path).await)?;
    Ok(Json(Empty {}))
}

/// A directory, or a link to one.
fn is_folder(entry: &FileEntry) -> bool {
    let end = entry.resolved.as_ref().map(|end| end.kind);
    end.unwrap_or(entry.kind) == FileKind::Directory
}

impl Inside {
    async fn entry(&self, path: &str) -> Answer<One> {
        let found = self.look(path).await?;
        let found =
            found.ok_or_else(|| Refusal::new(Code::NotFound, format!("file not found: {path}")))?;
        let entry = EntryInfo::of(found);
        Ok(Json(One { entry }))
    }

    /// Refuses what is no directory.
    async fn folder(&self, path: &str) -> Result<(), Refusal> {
        match self.look(path).await? {
            Some(found) if is_folder(&found) => Ok(()),
            Some(_) => Err(Refusal::invalid(format!("path is not a directory: {path}"))),
            None => Err(Refusal::new(
                Code::NotFound,
                format!("directory not found: {path}"),
            )),
        }
    }

    async fn make(&self, path: &str) -> Result<(), Refusal> {
        let user = self.user.as_deref();
        Ok(self.node.make_dir(self.sandbox, path, user).await?)
    }
}
