//! Files from the body of a request.

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, header};
use futures::stream::{self, StreamExt, TryStreamExt};
use serde::Deserialize;
use skerry_http::{Answer, App, Json, Query, with_content};
use skerry_proto::node::{ByteStream, Map, Overwrite};
use skerry_types::{Error, ErrorCode, Result, limits};

use super::{At, Written, metadata};
use crate::envd::inside::Inside;
use crate::envd::path::resolve;
use crate::place::text;

/// Writes the body to a file, or each file of a form to its own.
pub(super) async fn write(
    State(app): State<App>,
    Extension(inside): Extension<Inside>,
    Query(at): Query<At>,
    request: Request,
) -> Answer<Json<Vec<Written>>> {
    let headers = request.headers().clone();
    let kind = text(&headers, header::CONTENT_TYPE.as_str()).unwrap_or_default();
    let target = Target {
        inside,
        at,
        headers: &headers,
    };
    if kind.starts_with("multipart/form-data") {
        return Ok(Json(target.form(&app, request).await?));
    }
    if target.at.path.is_none() {
        return Err(Error::validation("path: is missing").into());
    }
    let body = request.into_body();
    let content = skerry_http::upload(&app, &headers, body, limits::MAX_FILE_BYTES)?;
    Ok(Json(vec![target.write(None, content).await?]))
}

struct Target<'r> {
    inside: Inside,
    at: At,
    headers: &'r HeaderMap,
}

impl Target<'_> {
    /// Writes what is the fields `file`. Where no path is given, their names are whole paths.
    async fn form(&self, app: &App, request: Request) -> Result<Vec<Written>> {
        let form = skerry_http::open_form(app, request).await;
        let mut form = form.map_err(broken)?;
        let mut written = Vec::new();
        while let Some(field) = form.next_field().await.map_err(broken)? {
            if field.name() != Some("file") {
                continue;
            }
            let name = field.file_name().map(str::to_owned);
            let write = |content| self.write(name, content);
            written.push(with_content(app, field, limits::MAX_FILE_BYTES, write).await?);
        }
        Ok(written)
    }

    async fn write(&self, name: Option<String>, content: ByteStream) -> Result<Written> {
        let (inside, user) = (&self.inside, self.at.user(&self.inside));
        let path = self.at.path.clone().or(name);
        let path = path
            .ok_or_else(|| Error::validation("path: is missing, and the name of the file too"))?;
        let overwrite = Overwrite {
            path: resolve(inside, user, &path).await?,
            user: user.map(str::to_owned),
            attribute_prefix: metadata::PREFIX.to_owned(),
            attributes: metadata::asked(self.headers)?,
        };
        let written = inside
            .node
            .overwrite_file(inside.sandbox, overwrite, content)
            .await?;
        Ok(Written::of(written))
    }
}

/// Writes one file with what is in others, one after another.
pub(super) async fn compose(
    Extension(inside): Extension<Inside>,
    Json(request): Json<Compose>,
) -> Answer<Json<Written>> {
    let user = request.username.as_deref().or(inside.user.as_deref());
    let destination = resolve(&inside, user, &request.destination).await?;
    let mut sources = Vec::new();
    for source in &request.source_paths {
        let source = resolve(&inside, user, source).await?;
        if source == destination {
            return Err(Error::validation("destination: is one of the sources").into());
        }
        sources.push(source);
    }
    let overwrite = Overwrite {
        path: destination,
        user: user.map(str::to_owned),
        attribute_prefix: String::new(),
        attributes: Map::new(),
    };
    let (node, sandbox) = (&inside.node, inside.sandbox);
    let content = one_after_another(inside.clone(), sources);
    Ok(Json(Written::of(
        node.overwrite_file(sandbox, overwrite, content).await?,
    )))
}

fn one_after_another(inside: Inside, sources: Vec<String>) -> ByteStream {
    let read = move |source: String| {
        let Inside { node, sandbox, .. } = inside.clone();
        async move {
            let read = node.read_file(sandbox, &source, 0, None).await;
            read.map(|(_, content)| content)
        }
    };
    stream::iter(sources).then(read).try_flatten().boxed()
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorCode::BadRequest, error.to_string())
}

/// Files to put together.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Compose {
    source_paths: Vec<String>,
    destination: String,
    username: Option<String>,
}
