//! The row of a sandbox, and the words in it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use skerry_types::{
    Egress, FailureReason, NodeId, OrgId, Profile, PublishedPort, Resources, SandboxId,
    SandboxState,
};
use uuid::Uuid;

use crate::context::Tenant;
use crate::error::Result;
use crate::sql::Row;
use crate::volumes::Mounted;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
        }

        impl $name {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire and in the store.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                }
            }

            /// The one with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|word| word.as_str() == name)
            }
        }

        impl From<$name> for crate::sql::Value {
            fn from(word: $name) -> Self {
                word.as_str().into()
            }
        }

        impl From<Option<$name>> for crate::sql::Value {
            fn from(word: Option<$name>) -> Self {
                word.map($name::as_str).into()
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What happens to a sandbox whose time is over.
    OnTimeout {
        /// It is stopped; its record and files stay.
        Stop = "stop",
        /// It is frozen.
        Pause = "pause",
        /// It is removed.
        Delete = "delete",
    }
}

words! {
    /// What a sandbox reaches over the network.
    Network {
        /// Nothing.
        None = "none",
        /// The internet, through the node's address.
        Nat = "nat",
    }
}

words! {
    /// What a program may do inside.
    Privilege {
        /// No capability at all.
        Restricted = "restricted",
        /// Root within the sandbox's own user namespace.
        Root = "root",
    }
}

/// What was asked of the way it is isolated. What is not given is up to the node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// This driver.
    pub driver: Option<String>,
    /// At least this isolation.
    pub isolation: Option<String>,
    /// This privilege.
    pub privilege: Option<Privilege>,
}

/// What its node says that a sandbox really is. Each is unknown until the node has made it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// ns, gvisor, vm, docker, fly or sim.
    pub driver: Option<String>,
    /// namespace, `application_kernel`, vm, remote or none.
    pub isolation: Option<String>,
    /// kvm or tcg; nothing where there is no guest.
    pub accelerator: Option<String>,
    /// What a program may do inside.
    pub privilege: Option<Privilege>,
    /// btrfs, reflink, copy …
    pub storage: Option<String>,
    /// The disk limit binds.
    pub disk_quota: Option<bool>,
    /// The memory, CPU and process limits bind.
    pub limits: Option<bool>,
    /// Digest of the image.
    pub image_digest: Option<String>,
    /// How a fork was made: `files`, or `files+memory`.
    pub fork_kind: Option<String>,
    /// How long making it took, in microseconds.
    pub boot_us: Option<i64>,
    /// Its ports that are reached at ports of its node.
    pub published: Option<Vec<PublishedPort>>,
}

/// A sandbox as control remembers it. The truth about what runs is on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are columns that have nothing to do with each other"
)]
pub struct Sandbox {
    /// Its id.
    pub id: SandboxId,
    /// Whose it is.
    pub org_id: OrgId,
    /// Where it runs; none while it is queued.
    pub node_id: Option<NodeId>,
    /// What people call it; no other living one of its org has the same.
    pub name: Option<String>,
    /// The project that it belongs to.
    pub project: Option<String>,
    /// Where.
    pub region: String,
    /// What it starts from, as the caller wrote it.
    pub image: String,
    /// The name of the template it was made from.
    pub template: Option<String>,
    /// The named size it was asked with.
    pub profile: Option<Profile>,
    /// What it may use at most.
    pub resources: Resources,
    /// What it reaches.
    pub network: Network,
    /// Where it may connect.
    pub egress: Egress,
    /// What was asked of its isolation.
    pub wanted: Wanted,
    /// What it really is, once its node has said so.
    pub facts: Facts,
    /// Where it is in its life.
    pub state: SandboxState,
    /// Why it failed, or ended without being asked.
    pub failure_reason: Option<FailureReason>,
    /// The same for a person.
    pub failure_message: Option<String>,
    /// The caller's own names and values.
    pub metadata: BTreeMap<String, String>,
    /// Names of its environment; the values are only on its node.
    pub env_names: Vec<String>,
    /// Its parent.
    pub forked_from: Option<SandboxId>,
    /// The sandbox that its tree of forks grew from; itself if it is no fork.
    pub fork_root: SandboxId,
    /// Forks between it and its root.
    pub fork_depth: u32,
    /// Its own forks that came to run.
    pub fork_count: u32,
    /// Its age limit, counted from its start; 0: none.
    pub ttl_seconds: u32,
    /// How long it may be unused; 0: for ever.
    pub idle_seconds: u32,
    /// What happens when either is over.
    pub on_timeout: OnTimeout,
    /// What happens when it was unused for too long, where that differs.
    pub on_idle: Option<OnTimeout>,
    /// Paused, it wakes up when it is used.
    pub auto_resume: bool,
    /// Paused, its age limit does not count.
    pub keep_paused: bool,
    /// Its ports are reached without a key.
    pub public_ports: bool,
    /// Its ports to publish on its node.
    pub ports: Vec<u16>,
    /// Volumes that it has.
    pub volumes: Vec<Mounted>,
    /// When its age limit is reached; known once it runs.
    pub expires_at: Option<Timestamp>,
    /// The warning before that was given.
    pub ttl_warned: bool,
    /// When something last used it.
    pub last_active_at: Timestamp,
    /// How long it waits for a place.
    pub queue_timeout_seconds: u32,
    /// When it began to wait for a place.
    pub queued_at: Option<Timestamp>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
    /// When it last ran again after a pause.
    pub resumed_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
    /// When this row last changed.
    pub updated_at: Timestamp,
}

impl Sandbox {
    /// The context of the org that it belongs to, for reconcilers that act on it.
    pub const fn tenant(&self) -> Tenant {
        Tenant::of(self.org_id)
    }

    pub(crate) fn read(row: &Row) -> Result<Self> {
        let id = |column| row.get(column).map(SandboxId::from_uuid);
        Ok(Self {
            id: id("id")?,
            org_id: OrgId::from_uuid(row.get("org_id")?),
            node_id: row.get::<Option<Uuid>>("node_id")?.map(NodeId::from_uuid),
            name: row.get("name")?,
            project: row.get("project")?,
            region: row.get("region")?,
            image: row.get("image")?,
            template: row.get("template")?,
            profile: row.word_opt("profile", Profile::from_name)?,
            resources: Resources {
                vcpus: row.count("vcpus")?,
                memory_mb: row.count("memory_mb")?,
                disk_mb: row.count("disk_mb")?,
                pids: row.count("pids")?,
            },
            network: row.word("network", Network::from_name)?,
            egress: row.json("egress")?,
            wanted: Wanted::read(row)?,
            facts: Facts::read(row)?,
            state: row.word("state", SandboxState::from_name)?,
            failure_reason: row.word_opt("failure_reason", FailureReason::from_name)?,
            failure_message: row.get("failure_message")?,
            metadata: row.json("metadata")?,
            env_names: row.json("env_names")?,
            forked_from: row
                .get::<Option<Uuid>>("forked_from")?
                .map(SandboxId::from_uuid),
            fork_root: id("fork_root")?,
            fork_depth: row.count("fork_depth")?,
            fork_count: row.count("fork_count")?,
            ttl_seconds: row.count("ttl_seconds")?,
            idle_seconds: row.count("idle_seconds")?,
            on_timeout: row.word("on_timeout", OnTimeout::from_name)?,
            on_idle: row.word_opt("on_idle", OnTimeout::from_name)?,
            auto_resume: row.get("auto_resume")?,
            keep_paused: row.get("keep_paused")?,
            public_ports: row.get("public_ports")?,
            ports: row.json("ports")?,
            volumes: row.json("volumes")?,
            expires_at: row.time_opt("expires_at")?,
            ttl_warned: row.get("ttl_warned")?,
            last_active_at: row.time("last_active_at")?,
            queue_timeout_seconds: row.count("queue_timeout_seconds")?,
            queued_at: row.time_opt("queued_at")?,
            created_at: row.time("created_at")?,
            started_at: row.time_opt("started_at")?,
            resumed_at: row.time_opt("resumed_at")?,
            ended_at: row.time_opt("ended_at")?,
            deleted_at: row.time_opt("deleted_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

impl Wanted {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            driver: row.get("wanted_driver")?,
            isolation: row.get("wanted_isolation")?,
            privilege: row.word_opt("wanted_privilege", Privilege::from_name)?,
        })
    }
}

impl Facts {
    fn read(row: &Row) -> Result<Self> {
        Ok(Self {
            driver: row.get("driver")?,
            isolation: row.get("isolation")?,
            accelerator: row.get("accelerator")?,
            privilege: row.word_opt("privilege", Privilege::from_name)?,
            storage: row.get("storage")?,
            disk_quota: row.get("disk_quota")?,
            limits: row.get("limits")?,
            image_digest: row.get("image_digest")?,
            fork_kind: row.get("fork_kind")?,
            boot_us: row.get("boot_us")?,
            published: row.text_json("published")?,
        })
    }
}
