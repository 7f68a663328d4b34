//! Control: decides and remembers. Tenants, keys, quotas, placement, the queue, expiry.
//!
//! Invariants: it holds no sandbox state that it could not rebuild from the store and the nodes' reports; a state changes only through
//! [`skerry_types::state::next`] with a compare-and-set in the store; no operation depends on the connection of whoever asked for it.
#![warn(missing_docs)]

mod caller;
mod catalogue;
mod clock;
mod nodes;
mod request;
mod sandbox;
mod service;
mod settings;

pub use caller::{Caller, Scope};
pub use catalogue::ImageCatalogue;
pub use clock::{Clock, ManualClock, SystemClock};
pub use nodes::{Member, NodeFacts, Nodes, Offer};
pub use request::{
    CreateRequest, ForkRequest, ListQuery, Need, OnTimeout, Reply, TimeoutRequest, Until,
};
pub use sandbox::{Page, Readiness, Sandbox, Tree, TreeMember};
pub use service::Control;
pub use settings::{OnDrain, Settings};
