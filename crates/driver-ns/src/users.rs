//! How an ordinary user's server comes to have many ids: it moves into a user namespace of its own, in which it is root.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use skerry_sys::clone::SingleThreaded;
use skerry_sys::pidfd::Identity;
use skerry_sys::userns::{self, UsernsError};
use skerry_types::SandboxId;

use crate::processes;
use crate::record::Records;

/// Why sandboxes will have a single id.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    /// Threads were started already.
    #[error("cannot change namespaces")]
    Threads(#[source] io::Error),
    /// The records of sandboxes that may still run cannot be read.
    #[error("cannot look for sandboxes that run")]
    Records(#[source] io::Error),
    /// The namespace cannot be had.
    #[error(transparent)]
    Userns(#[from] UsernsError),
}

/// Gives this process, and all that it starts, the ids that the machine set aside for its user. To be called first of all, with one thread.
///
/// Root has them all, and nothing happens. If sandboxes of this data folder still run, it is their namespace that is entered again: from any
/// other they could not even be killed. An error leaves everything as it was.
pub fn enter(data_dir: &Path) -> Result<(), UsersError> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let single = SingleThreaded::check().map_err(UsersError::Threads)?;
    let userns = match earlier(data_dir).map_err(UsersError::Records)? {
        Some(userns) => userns,
        None => userns::make(&single)?,
    };
    Ok(userns::enter(&single, &userns)?)
}

/// The namespace of the server that started what still runs.
fn earlier(data_dir: &Path) -> io::Result<Option<OwnedFd>> {
    if !data_dir.join("run").exists() {
        return Ok(None);
    }
    let records = Records::open(data_dir)?;
    for id in records.list()? {
        for pid in agents(&records, id)? {
            // It may have ended meanwhile.
            if let Ok(Some(userns)) = userns::parent_of(pid) {
                return Ok(Some(userns));
            }
        }
    }
    Ok(None)
}

/// The sandbox's agent: by its record, or by its name if a crash came before the record.
fn agents(records: &Records, id: SandboxId) -> io::Result<Vec<u32>> {
    let recorded = records.read(id)?.and_then(|state| state.agent);
    match recorded.filter(|identity| Identity::of(identity.pid).is_ok_and(|now| now == *identity)) {
        Some(identity) => Ok(vec![identity.pid]),
        None => processes::agents_of(&id.label()),
    }
}
