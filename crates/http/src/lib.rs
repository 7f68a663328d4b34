//! The HTTP edge: `/v1`, its streams, its documents, and what guards them.
//!
//! Invariants: no logic that another edge would have to repeat; every answer that is not a success is the one envelope; nothing is
//! answered without a key but the short list in `guard`; a reader's slowness costs one bounded buffer.
#![warn(missing_docs)]

mod activity;
mod app;
mod body;
mod check;
mod collect;
mod connection;
mod convert;
mod docs;
mod edge;
mod error;
mod extract;
mod form;
mod guard;
mod images;
mod json;
mod linger;
mod once;
mod opened;
pub mod ports;
mod routes;
mod serve;
mod sse;
mod stall;
mod tls;
mod ws;

pub use app::{App, Settings};
pub use body::upload;
pub use check::start as check_start;
pub use edge::{Entry, Protocol, edge};
pub use error::{Answer, Failure};
pub use extract::{Json, Path, Query};
pub use form::{open as open_form, with_content};
pub use images::ImageService;
pub use once::Once;
pub use routes::{openapi, router};
pub use serve::{serve, serve_tcp, serve_tls};
pub use tls::{Tls, TlsError};
