//! What a node must remember of a sandbox to run commands in it after a restart. Holds env values, so only its owner may read it.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skerry_driver::Spec;
use skerry_image::Image;
use skerry_proto::node::{Map, Start};
use skerry_types::{Egress, PublishedPort, SandboxId, SnapshotId};

use crate::event::Event;
use crate::layout::Layout;
use crate::names::Names;
use crate::record;

/// See the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Meta {
    /// What the driver was asked for.
    pub(crate) spec: Spec,
    /// Which driver.
    pub(crate) driver: String,
    /// The image it was made from, as it was then.
    pub(crate) image: Image,
    /// As whom commands run that do not say.
    pub(crate) user: String,
    /// The environment of everything in it: the image's, then the sandbox's.
    pub(crate) env: Map,
    /// What runs in it from the start.
    #[serde(default)]
    pub(crate) start: Option<Start>,
    /// The parent it was forked from.
    pub(crate) forked_from: Option<SandboxId>,
    /// Paused, it wakes up when it is used.
    #[serde(default)]
    pub(crate) auto_resume: bool,
    /// Its ports that are reached at ports of this machine.
    #[serde(default)]
    pub(crate) published: Vec<PublishedPort>,
    /// Where it may connect.
    #[serde(default)]
    pub(crate) egress: Egress,
    /// What its agent calls what goes on in it.
    #[serde(default)]
    pub(crate) names: Names,
    /// The last time that it was rolled back.
    #[serde(default)]
    pub(crate) rolled_back: Option<RolledBack>,
    /// It is being deleted: a daemon that finds this finishes it. The name of the file says so.
    #[serde(skip)]
    pub(crate) deleting: bool,
}

/// A rollback, so that a daemon can put it on record that did not do it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RolledBack {
    /// Its number among those of the sandbox, from 1.
    pub(crate) count: u64,
    /// To this snapshot.
    pub(crate) to: SnapshotId,
    /// What went on.
    pub(crate) open: Vec<Event>,
}

impl Meta {
    /// Of a copy: what it shares with the original.
    pub(crate) fn copy(mut self, id: SandboxId, name: Option<&str>, memory: bool) -> Self {
        self.spec.id = id;
        self.spec.hostname = hostname(id, name);
        self.rolled_back = None;
        self.deleting = false;
        self.published = Vec::new();
        if !memory {
            self.names = Names::default();
        }
        self
    }

    /// Puts it in place whole.
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        record::save(self, path)
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        record::load(path)
    }

    /// What is remembered of a sandbox. `None`: it is deleted, or was begun by a daemon that died at once.
    pub(crate) fn recall(layout: &Layout, id: SandboxId) -> io::Result<Option<Self>> {
        if let Some(meta) = if_there(Self::load(&layout.meta(id)))? {
            return Ok(Some(meta));
        }
        let left = if_there(Self::load(&layout.meta_of_deleting(id)))?;
        Ok(left.map(|meta| Self {
            deleting: true,
            ..meta
        }))
    }

    /// Notes that a sandbox is being deleted, or is not after all.
    pub(crate) fn note_deleting(layout: &Layout, id: SandboxId, deleting: bool) -> io::Result<()> {
        let (lives, goes) = (layout.meta(id), layout.meta_of_deleting(id));
        let (from, to) = if deleting {
            (lives, goes)
        } else {
            (goes, lives)
        };
        fs::rename(from, to)
    }

    /// Forgets all of it, env values too.
    pub(crate) fn forget(layout: &Layout, id: SandboxId) -> io::Result<()> {
        let mut names = [layout.meta(id), layout.meta_of_deleting(id)].into_iter();
        names.try_for_each(|name| if_there(fs::remove_file(name)).map(drop))
    }
}

fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// The name where it can be a host name, else the id's label.
pub(crate) fn hostname(id: SandboxId, name: Option<&str>) -> String {
    let is_label = |n: &&str| {
        n.len() <= 63
            && !n.starts_with('-')
            && !n.ends_with('-')
            && n.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.filter(|n| !n.is_empty())
        .filter(is_label)
        .map_or_else(|| id.label(), str::to_owned)
}
