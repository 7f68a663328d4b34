//! Files as bodies of requests: read one, write some.

mod download;
pub(super) mod metadata;
mod signature;
mod upload;

use axum::Router;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use skerry_http::App;
use skerry_proto::node::{FileEntry, Map};
use tower_http::compression::CompressionLayer;
use tower_http::decompression::RequestDecompressionLayer;

use super::inside::Inside;

pub(crate) use signature::{Access, FILES};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route(FILES, get(download::read).post(upload::write))
        .layer(CompressionLayer::new().no_br().no_deflate().no_zstd())
        .layer(
            RequestDecompressionLayer::new()
                .no_br()
                .no_deflate()
                .no_zstd(),
        )
        .route("/files/compose", post(upload::compose))
}

/// Which file, and who may.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct At {
    path: Option<String>,
    username: Option<String>,
}

impl At {
    /// Whom the request is for; `None`: the image's user.
    fn user<'a>(&'a self, inside: &'a Inside) -> Option<&'a str> {
        let named = self.username.as_deref().filter(|name| !name.is_empty());
        named.or(inside.user.as_deref())
    }
}

/// A file that was written.
#[derive(Debug, Clone, Serialize)]
struct Written {
    path: String,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Map::is_empty")]
    metadata: Map,
}

impl Written {
    fn of(entry: FileEntry) -> Self {
        Self {
            metadata: metadata::of(&entry),
            path: entry.path,
            name: entry.name,
            kind: "file",
        }
    }
}
