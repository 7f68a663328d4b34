//! What callers get to see.

use jiff::Timestamp;
use skerry_proto::node::{Map, NodeHealth, SandboxFacts};
use skerry_store::{Facts, Mounted, OnTimeout, Sandbox as Row};
use skerry_types::{Egress, FailureReason, NodeId, OrgId, Resources, SandboxId, SandboxState};

/// A sandbox as control knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Which.
    pub id: SandboxId,
    /// Whose.
    pub org: OrgId,
    /// Where it is in its life.
    pub status: SandboxState,
    /// Why it failed, or why it was stopped without being asked.
    pub failure_reason: Option<FailureReason>,
    /// The same for a person.
    pub failure_message: Option<String>,
    /// Its place in the queue, from 1, while it is queued.
    pub queue_position: Option<u32>,
    /// What it started from.
    pub image: String,
    /// The name of the template it was made from.
    pub template: Option<String>,
    /// The profile it was made with.
    pub profile: Option<String>,
    /// What it may use at most.
    pub resources: Resources,
    /// Names of its environment; values are never kept.
    pub env_names: Vec<String>,
    /// Age limit in seconds, as asked.
    pub ttl_seconds: u64,
    /// When it reaches its age limit; `None` before it runs.
    pub expires_at: Option<Timestamp>,
    /// Idle limit in seconds; 0: none.
    pub idle_seconds: u64,
    /// What happens at its age limit.
    pub on_timeout: OnTimeout,
    /// What happens at its idle limit.
    pub on_idle: OnTimeout,
    /// Paused, it wakes up when it is used.
    pub auto_resume: bool,
    /// Paused, its age limit does not count.
    pub keep_paused: bool,
    /// What listens in it is reached without a key.
    pub public_ports: bool,
    /// Volumes that it has.
    pub volumes: Vec<Mounted>,
    /// How long it may wait for a place.
    pub queue_timeout_seconds: u64,
    /// Names and values to find it by.
    pub metadata: Map,
    /// Its name.
    pub name: Option<String>,
    /// Where.
    pub region: String,
    /// `none` or `nat`.
    pub network: String,
    /// Where it may connect.
    pub egress: Egress,
    /// The project it belongs to.
    pub project: Option<String>,
    /// The driver that was asked for.
    pub driver: Option<String>,
    /// The least isolation that was asked for.
    pub isolation: Option<String>,
    /// The privilege level that was asked for.
    pub privilege: Option<String>,
    /// What it really is, once it was made.
    pub facts: Option<SandboxFacts>,
    /// The node that has it.
    pub node: Option<NodeId>,
    /// Its parent.
    pub forked_from: Option<SandboxId>,
    /// Forks between it and its root.
    pub fork_depth: u32,
    /// Its children.
    pub fork_count: u32,
    /// How long making it took, in microseconds.
    pub boot_us: Option<u64>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it started to run.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When something last used it.
    pub last_active_at: Timestamp,
}

impl Sandbox {
    /// The record as callers get to see it.
    pub(crate) fn of(row: Row, queue_position: Option<u32>) -> Self {
        Self {
            id: row.id,
            org: row.org_id,
            status: row.state,
            failure_reason: row.failure_reason,
            failure_message: row.failure_message,
            queue_position,
            image: row.image,
            template: row.template,
            profile: row.profile.map(|p| p.as_str().to_owned()),
            resources: row.resources,
            env_names: row.env_names,
            ttl_seconds: row.ttl_seconds.into(),
            expires_at: row.expires_at,
            idle_seconds: row.idle_seconds.into(),
            on_timeout: row.on_timeout,
            on_idle: row.on_idle.unwrap_or(row.on_timeout),
            auto_resume: row.auto_resume,
            keep_paused: row.keep_paused,
            public_ports: row.public_ports,
            volumes: row.volumes,
            queue_timeout_seconds: row.queue_timeout_seconds.into(),
            metadata: row.metadata,
            name: row.name,
            region: row.region,
            network: row.network.as_str().to_owned(),
            egress: row.egress,
            project: row.project,
            driver: row.wanted.driver,
            isolation: row.wanted.isolation,
            privilege: row.wanted.privilege.map(|p| p.as_str().to_owned()),
            boot_us: row.facts.boot_us.and_then(|us| us.try_into().ok()),
            facts: facts(row.facts),
            node: row.node_id,
            forked_from: row.forked_from,
            fork_depth: row.fork_depth,
            fork_count: row.fork_count,
            created_at: row.created_at,
            started_at: row.started_at,
            ended_at: row.ended_at,
            last_active_at: row.last_active_at,
        }
    }
}

/// Facts are facts once its node said what it is.
fn facts(facts: Facts) -> Option<SandboxFacts> {
    Some(SandboxFacts {
        driver: facts.driver?,
        isolation: facts.isolation?,
        accelerator: facts.accelerator,
        privilege: facts.privilege?.as_str().to_owned(),
        storage: facts.storage?,
        disk_quota: facts.disk_quota?,
        limits: facts.limits?,
        image_digest: facts.image_digest?,
        fork: facts.fork_kind,
        published: facts.published.unwrap_or_default(),
    })
}

/// Some sandboxes of a longer list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// In the order asked for.
    pub sandboxes: Vec<Sandbox>,
    /// Where the next page begins, if there is one.
    pub next_cursor: Option<String>,
}

/// A sandbox in a tree of forks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeMember {
    /// Which.
    pub id: SandboxId,
    /// Its name.
    pub name: Option<String>,
    /// Where it is in its life; deleted ones stay in the tree.
    pub status: SandboxState,
    /// Its parent.
    pub forked_from: Option<SandboxId>,
    /// When it was forked; for the root, when it was made.
    pub created_at: Timestamp,
    /// Its children, oldest first.
    pub children: Vec<SandboxId>,
}

/// A whole tree of forks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// The one that was not forked.
    pub root: SandboxId,
    /// All members, parents before children.
    pub members: Vec<TreeMember>,
}

/// Whether requests can be served, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readiness {
    /// The store answers.
    pub store: bool,
    /// How a node is, the best if there are several; `None`: none answers.
    pub node: Option<NodeHealth>,
    /// Control is ending and takes nothing new.
    pub draining: bool,
}

impl Readiness {
    /// New work is welcome.
    pub fn ready(&self) -> bool {
        let well = self.node.as_ref() == Some(&NodeHealth::default());
        self.store && well && !self.draining
    }
}
