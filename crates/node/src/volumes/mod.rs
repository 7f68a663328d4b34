//! Volumes of this node: folders of its storage, and what is in them.
//!
//! Programs in sandboxes write there at the same time, so nothing in a volume is trusted: every path is resolved by the kernel below the volume's
//! root, only regular files are opened, and whatever is counted has an end.

mod content;
mod list;
mod remove;
mod transfer;

use std::sync::Arc;

use skerry_driver::VolumeMount;
use skerry_proto::node::{Mount, VolumeAttributes, VolumeReport};
use skerry_storage::{Storage, StorageError};
use skerry_sys::idmap::{Ids, RANGE};
use skerry_types::{Error, ErrorCode, Result, VolumeId};

pub(crate) use content::Content;
pub(crate) use list::list;
pub(crate) use remove::remove;
pub(crate) use transfer::{read, write};

/// The first user of most images that is not root: who owns a volume, and with it what is put into it from outside.
const OWNER: u32 = 1000;

/// Where volumes are. Without storage there are none.
#[derive(Debug, Clone)]
pub(crate) struct Shelf(Option<Arc<Storage>>);

impl Shelf {
    pub(crate) fn new(storage: Option<Arc<Storage>>) -> Self {
        Self(storage)
    }

    pub(crate) fn create(&self, id: VolumeId, limit_bytes: u64) -> Result<VolumeReport> {
        let own = (
            rustix::process::geteuid().as_raw(),
            rustix::process::getegid().as_raw(),
        );
        let owner = ids()?.on_disk(OWNER).map_or(own, |id| (id, id));
        let made = self.storage()?.create_shared(id, limit_bytes, owner);
        made.map_err(|error| refused(&error))?;
        self.report(id)
    }

    pub(crate) fn all(&self) -> Result<Vec<VolumeId>> {
        match &self.0 {
            Some(storage) => storage.list_shared().map_err(|error| refused(&error)),
            None => Ok(Vec::new()),
        }
    }

    pub(crate) fn report(&self, id: VolumeId) -> Result<VolumeReport> {
        let storage = self.storage()?;
        let report = || {
            Ok(VolumeReport {
                bytes: storage.shared_usage(id)?,
                size_binds: storage.facts()?.disk_quota,
            })
        };
        report().map_err(|error| refused(&error))
    }

    pub(crate) fn remove(&self, id: VolumeId) -> Result<()> {
        match &self.0 {
            Some(storage) => storage.remove_shared(id).map_err(|error| refused(&error)),
            None => Ok(()),
        }
    }

    /// What is in it.
    pub(crate) fn open(&self, id: VolumeId) -> Result<Content> {
        let folder = self
            .storage()?
            .shared(id)
            .map_err(|error| refused(&error))?;
        Content::open(&folder, ids()?)
    }

    /// Where a driver finds those that a sandbox has.
    pub(crate) fn mounts(&self, wanted: &[Mount]) -> Result<Vec<VolumeMount>> {
        let mount = |mount: &Mount| {
            let source = self.storage()?.shared(mount.volume);
            Ok(VolumeMount {
                source: source.map_err(|error| refused(&error))?,
                target: mount.path.clone().into(),
            })
        };
        wanted.iter().map(mount).collect()
    }

    fn storage(&self) -> Result<&Storage> {
        let storage = self.0.as_deref();
        storage.ok_or_else(|| Error::unsupported("this node has no storage for volumes"))
    }
}

fn ids() -> Result<Ids> {
    Ids::own().map_err(Error::internal)
}

/// Owners that no sandbox has would be nobody's.
pub(crate) fn check(attributes: VolumeAttributes) -> Result<()> {
    let ids = [attributes.uid, attributes.gid];
    if ids.into_iter().flatten().any(|id| id >= RANGE) {
        let most = RANGE - 1;
        return Err(Error::validation(format!(
            "uid and gid may be {most} at most"
        )));
    }
    if attributes.mode.is_some_and(|mode| mode > 0o7777) {
        return Err(Error::validation("mode: has bits that no file has"));
    }
    Ok(())
}

fn refused(error: &StorageError) -> Error {
    let code = match error {
        StorageError::NoShared(id) => return Error::not_found(format!("volume {id}")),
        StorageError::DiskFull { .. } => ErrorCode::DiskFull,
        StorageError::PoolClosed { .. } => ErrorCode::ServiceUnavailable,
        _ => ErrorCode::InternalError,
    };
    // Whose causes name folders of the host.
    tracing::warn!(error = error as &dyn std::error::Error, "storage refused");
    Error::new(code, error.to_string())
}
