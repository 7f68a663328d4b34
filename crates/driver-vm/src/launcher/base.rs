//! Making a base disk: all layers of an image side by side on one file system.
//!
//! They are shown side by side in a mount namespace of this process's own, and the disk is filled from there.

use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;

use skerry_sys::mount::{self, Attributes};

use super::message::Failure;

/// The arguments that make this: the empty folder to show them in, the disk's file, its size in KiB, and each tree's path and name on the disk.
pub(crate) fn command<'a>(
    stage: &'a Path,
    disk: &'a Path,
    kib: u64,
    trees: impl Iterator<Item = (&'a Path, String)>,
) -> Vec<OsString> {
    let mut args = vec![OsString::from("base"), stage.into(), disk.into()];
    args.push(kib.to_string().into());
    for (path, name) in trees {
        args.extend([path.into(), name.into()]);
    }
    args
}

/// Shows the trees, then becomes the program that fills the disk.
pub(super) fn make(args: &[OsString]) -> Result<Infallible, Failure> {
    let [stage, disk, kib, trees @ ..] = args else {
        let wrong = io::Error::from(io::ErrorKind::InvalidInput);
        return Err(Failure::at("understand the request")(wrong));
    };
    show(Path::new(stage), trees).map_err(Failure::at("show the layers"))?;
    let error = super::super::disk::mke2fs(Path::new(disk), OsStr::new(kib))
        .arg("-d")
        .arg(stage)
        .exec();
    Err(Failure::at("run mke2fs")(error))
}

fn show(stage: &Path, trees: &[OsString]) -> io::Result<()> {
    mount::own_namespace()?;
    let options = [("mode", Some("755")), ("size", Some("1m"))];
    let folder = mount::new("tmpfs", &options, Attributes::NONE)?;
    mount::attach(folder.as_fd(), stage)?;
    for tree in trees.chunks_exact(2) {
        let at = stage.join(&tree[1]);
        fs::create_dir(&at)?;
        let shown = mount::copy(Path::new(&tree[0]))?;
        mount::restrict(shown.as_fd(), Attributes::READ_ONLY, None)?;
        mount::attach(shown.as_fd(), &at)?;
    }
    Ok(())
}
