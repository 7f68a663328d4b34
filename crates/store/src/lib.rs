//! What control remembers, on `SQLite` or PostgreSQL: one SQL text for both.
//!
//! Invariant: every function takes a [`Tenant`] or a [`System`], so a query without its tenant does not compile; a tenant's statement names
//! the org in its WHERE. Times come from the caller, never from a clock in here, except when the first rows are made.
#![warn(missing_docs)]

mod builds;
mod change;
mod context;
mod create;
mod db;
mod deletions;
mod error;
mod idempotency;
mod keys;
mod layers;
mod nodes;
mod open;
mod orgs;
mod page;
mod promises;
mod queue;
mod sandbox;
mod sandboxes;
mod secret;
mod seed;
mod snapshots;
mod sql;
mod start;
mod templates;
mod volumes;
mod writer;

pub use builds::{Build, BuildEnd, BuildStatus, Defaults, LogLine};
pub use change::{Cas, Change, Times};
pub use context::{System, Tenant};
pub use create::{NewFork, NewSandbox};
pub use deletions::Deletion;
pub use error::{Result, StoreError};
pub use idempotency::{Begun, Claim};
pub use keys::{ApiKey, NewKey};
pub use nodes::{LOCAL_NODE, Node, NodeState};
pub use open::Location;
pub use orgs::{Org, Quotas};
pub use page::{Cursor, Page};
pub use promises::Promise;
pub use sandbox::{Facts, Network, OnTimeout, Privilege, Sandbox, Wanted};
pub use sandboxes::Filter;
pub use secret::SECRET_BYTES;
pub use snapshots::{Snapshot, TakenSnapshot};
pub use templates::{Tag, Template};
pub use volumes::{Mounted, NewVolume, Volume};

/// An open store. Cheap to clone: clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    db: db::Db,
}
