//! `envd`: what these clients believe to be a server inside the sandbox, at port 49983. The [`Place`](crate::place::Place) of each request is
//! an extension of it.
//!
//! Nothing of it runs in there: processes are execs and files are files of the node, as for `/v1`.

mod connect;
mod files;
mod filesystem;
mod inside;
mod path;
mod process;
mod stream;
mod whole;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, header};
use axum::middleware::from_fn_with_state;
use skerry_http::{App, Entry, Failure, Protocol};
use skerry_types::Error;

use crate::cors::cors;
use crate::error;

pub(crate) use files::Access;

/// What a page needs of the head of a part of a file.
const READ_OF_FILES: [HeaderName; 2] = [header::ACCEPT_RANGES, header::CONTENT_RANGE];

/// Whether a request for this path can be for nobody else.
pub(crate) fn is_ours(path: &str) -> bool {
    ["/process.Process/", "/filesystem.Filesystem/", files::FILES]
        .iter()
        .any(|ours| path.starts_with(ours))
}

/// The routes.
pub(crate) fn router(app: App) -> Router {
    let protocol = Protocol {
        app: app.clone(),
        entry: Entry::Open,
        envelope: error::envelope,
    };
    Router::new()
        .merge(whole::routes())
        .merge(process::routes())
        .merge(filesystem::routes())
        .merge(files::routes())
        .fallback(async || Failure(Error::not_found("this route")))
        // Every route bounds its own body.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(app.clone(), inside::enter))
        .layer(from_fn_with_state(protocol, skerry_http::edge))
        .layer(cors(READ_OF_FILES))
        .with_state(app)
}
