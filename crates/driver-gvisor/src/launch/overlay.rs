//! The sandbox's root: its layers and its volume as one tree.
//!
//! An overlay writes with the rights of whoever mounted it, and files of the volume belong to the sandbox's ids; so a child that is root of
//! nothing but those ids mounts it, and hands it back mounted nowhere.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use skerry_sys::clone::{Forked, Namespaces, SingleThreaded};
use skerry_sys::fdpass;
use skerry_sys::idmap::{self, IdRange, RANGE};
use skerry_sys::mount::{self, Attributes};

use super::Needs;
use super::failure::Failure;
use super::stage::{restrictions, shown};

/// Anywhere but over the root.
const WORKPLACE: &str = "/sys";
const MAX_COMPLAINT: usize = 1024;

/// The root, mounted nowhere, and a user namespace of the sandbox's ids.
pub(super) struct Root {
    pub(super) tree: OwnedFd,
    pub(super) users: OwnedFd,
}

/// Has it made by a child.
pub(super) fn make(single: &SingleThreaded, needs: &Needs) -> Result<Root, Failure> {
    let at = || Failure::at("make namespaces for the overlay");
    let (ours, childs) = fdpass::pair().map_err(at())?;
    let namespaces = Namespaces::USER | Namespaces::MOUNT;
    let Forked::Parent { pid, .. } = single.fork(namespaces, None).map_err(at())? else {
        drop(ours);
        child(needs, &childs)
    };
    drop(childs);
    let ids = IdRange {
        inside: 0,
        outside: needs.first_id,
        count: RANGE,
    };
    idmap::write(pid, ids, ids, true).map_err(Failure::at("map the sandbox's users"))?;
    let users = fs::File::open(format!("/proc/{pid}/ns/user")).map_err(at())?;
    let trees = trees(needs, users.as_fd())?;
    let trees: Vec<_> = trees.iter().map(AsFd::as_fd).collect();
    fdpass::send(&ours, b"go", &trees).map_err(at())?;
    let mut said = [0; MAX_COMPLAINT];
    let (len, mut made) = fdpass::receive(&ours, &mut said).map_err(at())?;
    let complaint = || io::Error::other(String::from_utf8_lossy(&said[..len]).into_owned());
    let tree = made.pop().ok_or_else(complaint);
    Ok(Root {
        tree: tree.map_err(Failure::at("mount the overlay"))?,
        users: users.into(),
    })
}

/// Layers, lowest first, and the volume, each shown with the sandbox's ids.
fn trees(needs: &Needs, users: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Failure> {
    let writable = restrictions(needs.privilege);
    let read_only = writable.and(Attributes::READ_ONLY);
    let layers = needs.layers.iter().map(|layer| (layer, read_only));
    let all = layers.chain([(&needs.volume, writable)]);
    all.map(|(path, attributes)| {
        let failed = Failure::at(format!("show {} inside", path.display()));
        shown(path, attributes, Some(users)).map_err(failed)
    })
    .collect()
}

/// The child's whole life: waits until it has ids and trees, and gives the overlay for them.
fn child(needs: &Needs, parent: &OwnedFd) -> ! {
    let done = fdpass::receive(parent, &mut [0; 8])
        .and_then(|(_, trees)| mounted(needs, &trees))
        .and_then(|root| fdpass::send(parent, b"made", &[root.as_fd()]));
    if let Err(error) = done {
        // A parent that does not listen is gone.
        let _unheard = fdpass::send(parent, error.to_string().as_bytes(), &[]);
    }
    #[expect(clippy::exit, reason = "a forked child has nothing to return to")]
    std::process::exit(0)
}

fn mounted(needs: &Needs, trees: &[OwnedFd]) -> io::Result<OwnedFd> {
    let (volume, layers) = trees.split_last().ok_or(io::ErrorKind::UnexpectedEof)?;
    set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
    set_thread_groups(&[])?;
    set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
    mount::make_private()?;
    let place = mount::new("tmpfs", &[("size", Some("64k"))], Attributes::NONE)?;
    mount::attach(place.as_fd(), Path::new(WORKPLACE))?;
    rustix::process::fchdir(&place)?;
    // Short names keep the options short.
    let mut lower: Vec<String> = (0..layers.len()).map(|number| number.to_string()).collect();
    for (name, tree) in lower.iter().zip(layers) {
        fs::create_dir(name)?;
        mount::attach(tree.as_fd(), Path::new(name))?;
    }
    if lower.is_empty() {
        // An image may have no layer, an overlay must.
        fs::create_dir("empty")?;
        lower.push("empty".to_owned());
    }
    fs::create_dir("volume")?;
    mount::attach(volume.as_fd(), Path::new("volume"))?;
    // The uppermost comes first.
    lower.reverse();
    let lower = lower.join(":");
    let options = [
        ("lowerdir", Some(lower.as_str())),
        ("upperdir", Some("volume/upper")),
        ("workdir", Some("volume/work")),
        ("userxattr", None),
    ];
    mount::new("overlay", &options, restrictions(needs.privilege))
}
