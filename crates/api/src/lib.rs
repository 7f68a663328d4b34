//! The shapes of the REST API: what `/v1` takes and answers, with their OpenAPI schemas.
//!
//! Requests refuse fields they do not know. Times are RFC 3339 in UTC, sizes are in the unit that the name says.
//! Invariant: shapes only. What they mean is decided behind the edge.
#![warn(missing_docs)]

mod egress;
mod error;
mod event;
mod exec;
mod file;
mod health;
mod image;
mod page;
mod port;
mod sandbox;
mod schema;
mod session;
mod snapshot;
mod template;
mod volume;

/// Names and values.
pub type Map = std::collections::BTreeMap<String, String>;

pub use egress::*;
pub use error::ErrorBody;
pub use event::{Event, EventPage};
pub use exec::{
    ClientMessage, Command, Encoding, Exec, ExecPage, ExecResult, OpenPty, Process, ProcessList,
    ResourceUsage, RunExec, SendSignal, Signal, StreamEvent, TerminalSize,
};
pub use file::{
    FileEntry, FileKind, FilePage, FileWritten, MakeDir, MoveFile, ReadFile, UploadForm, WatchEvent,
};
pub use health::{Check, Health, Readiness};
pub use image::{Image, ImageList, PullEvent, PullImage, RegistryLogin};
pub use page::Cursor;
pub use port::{PortAddress, PortQuery, PublishedPort};
pub use sandbox::{
    CreateSandbox, DeletedSandbox, Facts, ForkError, ForkList, ForkMany, ForkMember, ForkOutcome,
    ForkSandbox, ForkTree, Metrics, OnTimeout, Sandbox, SandboxPage, SetTimeout, StoppedSandbox,
};
pub use session::{OpenSession, RunInSession, Session, SessionInput, SessionList};
pub use skerry_recipe as recipe;
pub use snapshot::{MemoryWish, RollBack, Snapshot, SnapshotPage, TakeSnapshot};
pub use template::{
    Build, BuildList, BuildLogLine, BuildStatus, StartBuild, Template, TemplateDefaults,
    TemplatePage, TemplateTag, Upload,
};
pub use volume::{CreateVolume, MakeVolumeDir, MountedVolume, Volume, VolumeMount, VolumePage};
