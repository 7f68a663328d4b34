//! Control: decides and remembers. Tenants, keys, quotas, placement, the queue, expiry.
//!
//! Invariants: it holds no sandbox state that it could not rebuild from the store and the nodes' reports; a state changes only through
//! [`skerry_types::state::next`] with a compare-and-set in the store; no operation depends on the connection of whoever asked for it.
#![warn(missing_docs)]

mod agree;
mod cache;
mod caller;
mod catalogue;
mod change;
mod clock;
mod create;
mod delete;
mod drain;
mod egress;
mod fork;
mod keys;
mod live;
mod make;
mod nodes;
mod once;
mod plan;
mod rate;
mod read;
mod reconcile;
mod request;
mod sandbox;
mod service;
mod settings;
mod sign;
mod snapshots;
mod spelling;
mod start;
mod steer;
mod templates;
mod turns;
mod validate;
mod volumes;

pub use caller::{Caller, Scope};
pub use catalogue::ImageCatalogue;
pub use clock::{Clock, ManualClock, SystemClock};
pub use fork::Forks;
pub use nodes::{Member, NodeFacts, Nodes, Offer, Wish};
pub use once::Attempt;
pub use rate::{Kind, Standing};
pub use request::{CreateRequest, ForkRequest, ListQuery, Need, Reply, TimeoutRequest, Until};
pub use sandbox::{Page, Readiness, Sandbox, Tree, TreeMember};
pub use service::Control;
pub use settings::{OnDrain, Settings};
pub use skerry_recipe as recipe;
pub use skerry_store::{Build, BuildStatus, LogLine, Tag, Template};
pub use skerry_store::{Mounted, Volume};
pub use skerry_store::{OnTimeout, Quotas, Snapshot};
pub use snapshots::{SnapshotPage, SnapshotQuery, SnapshotRequest};
pub use spelling::{e2b_key, is_key};
pub use templates::{BuildPlan, BuildRequest, PromisedBuild, TemplatePage, TemplateView};
pub use volumes::{VolumePage, VolumeRequest, VolumeWish};
