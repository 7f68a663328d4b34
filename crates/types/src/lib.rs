//! Words everything else is written in: ids, states, limits, ends and error codes.
//!
//! Invariant: pure. No I/O, no async, no clock except inside [`id`], where an id is born.
#![warn(missing_docs)]

pub mod egress;
pub mod end;
pub mod error;
pub mod id;
pub mod limits;
pub mod mounts;
pub mod port;
pub mod profile;
pub mod state;

pub use egress::{Egress, EgressError};
pub use end::{ExecEnd, ExecStatus, Usage};
pub use error::{Error, ErrorCode, Result};
pub use id::{
    ArtifactId, BuildId, ExecId, ImageId, KeyId, NodeId, OrgId, ParseIdError, ProfileId, ProjectId,
    SandboxId, SessionId, SnapshotId, TemplateId, VolumeId,
};
pub use port::PublishedPort;
pub use profile::{Profile, Resources};
pub use state::{Action, FailureReason, IllegalTransition, SandboxState};
