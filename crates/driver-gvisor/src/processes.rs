//! Finding the processes of `runsc` on the host, for when nothing else remembers them.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use skerry_sys::{pidfd, processes};

/// The flag that tells `runsc`, and each process that it starts, where its state is.
pub(crate) fn root_flag(root: &Path) -> String {
    format!("--root={}", root.display())
}

/// Every process of `runsc` that has its state in this folder. Nothing inside a sandbox is a process of the host with arguments of its own.
pub(crate) fn of_root(root: &Path) -> io::Result<Vec<u32>> {
    let flag = root_flag(root);
    processes::with_arguments(|arguments| arguments.contains(&flag.as_bytes()))
}

/// Kills all of them and waits until they are gone.
pub(crate) fn kill_root(root: &Path) -> io::Result<()> {
    processes::until_ended(|| {
        let found = of_root(root)?.into_iter();
        let living: Vec<OwnedFd> = found.filter_map(|pid| pidfd::open(pid).ok()?).collect();
        living.iter().try_for_each(pidfd::kill)?;
        living.iter().try_for_each(pidfd::end)?;
        Ok(living.is_empty())
    })
}
