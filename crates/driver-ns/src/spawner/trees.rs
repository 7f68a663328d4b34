//! The mounts that a sandbox is given: image layers, its writable volume and the host's folders, each shown with the sandbox's own ids.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use skerry_driver::Privilege;
use skerry_sys::mount::{self, Attributes};

use super::message::{Failure, Request};

/// Detached mounts, in the order of the request.
#[derive(Debug)]
pub(crate) struct Trees {
    /// Lowest first.
    pub(super) layers: Vec<OwnedFd>,
    pub(super) volume: OwnedFd,
    pub(super) binds: Vec<OwnedFd>,
    pub(super) shared: Vec<OwnedFd>,
    pub(crate) home: Option<OwnedFd>,
}

impl Trees {
    /// Copies the mounts, with the ids of a user namespace if there is one.
    pub(crate) fn collect(
        request: &Request,
        users: Option<BorrowedFd<'_>>,
    ) -> Result<Self, Failure> {
        let read_only = restrictions(request.privilege).and(Attributes::READ_ONLY);
        let writable = restrictions(request.privilege);
        Ok(Self {
            layers: (request.layers.iter())
                .map(|layer| tree(layer, read_only, users))
                .collect::<Result<_, _>>()?,
            volume: tree(&request.volume, writable, users)?,
            binds: (request.binds.iter())
                .map(|bind| bind_tree(&bind.source, read_only, users))
                .collect::<Result<_, _>>()?,
            shared: (request.shared.iter())
                .map(|mount| tree(&mount.source, writable.and(Attributes::NO_SUID), users))
                .collect::<Result<_, _>>()?,
            home: (request.home.as_ref())
                .map(|home| tree(home, writable.and(Attributes::NO_EXEC), users))
                .transpose()?,
        })
    }

    /// All of them, to be sent.
    pub(crate) fn into_fds(self) -> Vec<OwnedFd> {
        let last = [self.volume].into_iter().chain(self.binds);
        self.layers
            .into_iter()
            .chain(last)
            .chain(self.shared)
            .chain(self.home)
            .collect()
    }

    /// The other end of [`Trees::into_fds`].
    pub(crate) fn sort(request: &Request, fds: Vec<OwnedFd>) -> Option<Self> {
        let (layers, binds) = (request.layers.len(), request.binds.len());
        let shared = request.shared.len();
        if fds.len() != layers + 1 + binds + shared + usize::from(request.home.is_some()) {
            return None;
        }
        let mut fds = fds.into_iter();
        Some(Self {
            layers: fds.by_ref().take(layers).collect(),
            volume: fds.next()?,
            binds: fds.by_ref().take(binds).collect(),
            shared: fds.by_ref().take(shared).collect(),
            home: fds.next(),
        })
    }
}

/// What no file system of a sandbox of this level allows.
pub(super) fn restrictions(privilege: Privilege) -> Attributes {
    match privilege {
        Privilege::Restricted => Attributes::NO_DEV.and(Attributes::NO_SUID),
        Privilege::Root => Attributes::NO_DEV,
    }
}

pub(crate) fn tree(
    path: &Path,
    attributes: Attributes,
    users: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    let show = || -> io::Result<OwnedFd> {
        let tree = mount::copy(path)?;
        mount::restrict(tree.as_fd(), attributes, users)?;
        Ok(tree)
    };
    show().map_err(Failure::at(format!("show {} inside", path.display())))
}

/// A folder of the host. On a file system that cannot show other ids its owners are nobody inside, which reading does not mind.
fn bind_tree(
    path: &Path,
    attributes: Attributes,
    users: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Failure> {
    match tree(path, attributes, users) {
        Err(failure) if users.is_some() && failure.errno == Some(libc::EINVAL) => {
            tree(path, attributes, None)
        }
        done => done,
    }
}
