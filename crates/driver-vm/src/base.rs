//! Base disks: the layers and binds of an image on one file system, made once and never written again.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use skerry_driver::Rootfs;
use skerry_proto::guest::Bind;

use crate::engine::digest;
use crate::launcher;
use crate::layout::{self, Layout};

/// A file system needs more than what is in it.
const SPARE_KIB: u64 = 16 * 1024;
const BLOCK: u64 = 4096;
/// What a file costs beside its content.
const INODE: u64 = 512;
/// Changes with every package that is installed: the binds show the machine's own programs.
const PACKAGES: &str = "/var/lib/dpkg/status";

/// A tree and its name on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Tree {
    source: PathBuf,
    name: String,
}

/// What an image is on its base disk.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) key: String,
    /// Lowest first.
    pub(crate) layers: Vec<String>,
    pub(crate) binds: Vec<Bind>,
    trees: Vec<Tree>,
}

impl Base {
    /// Looks at an image. One that has changed since has another key.
    pub(crate) fn of(rootfs: &Rootfs) -> io::Result<Self> {
        let layers: Vec<String> = (0..rootfs.layers.len())
            .map(|n| format!("layer{n}"))
            .collect();
        let named = rootfs.binds.iter().enumerate();
        let binds: Vec<Bind> = named
            .map(|(n, bind)| Bind {
                source: format!("bind{n}"),
                target: bind.target.display().to_string(),
            })
            .collect();
        let sources = rootfs
            .layers
            .iter()
            .chain(rootfs.binds.iter().map(|bind| &bind.source));
        let names = layers.iter().chain(binds.iter().map(|bind| &bind.source));
        let trees = sources.cloned().zip(names.cloned());
        let trees: Vec<Tree> = trees.map(|(source, name)| Tree { source, name }).collect();
        let mut looks = Vec::new();
        for tree in &trees {
            looks.push(look(&tree.source)?);
        }
        if !binds.is_empty()
            && let Ok(packages) = fs::metadata(PACKAGES)
        {
            looks.push(stamp(Path::new(PACKAGES), &packages));
        }
        let looks: Vec<&[u8]> = looks.iter().map(String::as_bytes).collect();
        Ok(Self {
            key: digest(&looks),
            layers,
            binds,
            trees,
        })
    }

    /// Makes the disk unless it is there.
    pub(crate) fn make(&self, layout: &Layout, launcher: &[OsString]) -> io::Result<()> {
        let disk = layout.base(&self.key);
        if disk.is_file() {
            return Ok(());
        }
        let (new, stage) = (disk.with_extension("new"), disk.with_extension("stage"));
        layout::make(&stage)?;
        fs::File::create(&new)?;
        let mut bytes = 0;
        for tree in &self.trees {
            bytes += size(&tree.source)?;
        }
        // Block groups, tables of inodes and folders that are fuller than they look.
        let kib = bytes / 1024 + bytes / 1024 / 8 + SPARE_KIB;
        let trees = self.trees.iter();
        let trees = trees.map(|tree| (tree.source.as_path(), tree.name.clone()));
        let made = run(launcher, launcher::base_command(&stage, &new, kib, trees));
        fs::remove_dir(stage)?;
        made?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o444))?;
        fs::rename(new, disk)
    }
}

fn run(launcher: &[OsString], args: Vec<OsString>) -> io::Result<()> {
    let (program, first) = launcher.split_first().ok_or(ErrorKind::InvalidInput)?;
    let output = Command::new(program)
        .args(first)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if said.contains("No space left") {
        return Err(io::Error::from_raw_os_error(libc::ENOSPC));
    }
    Err(io::Error::other(said))
}

/// What a folder is, as far as its first level shows.
fn look(folder: &Path) -> io::Result<String> {
    let mut text = stamp(folder, &fs::metadata(folder)?);
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.path());
    }
    names.sort_unstable();
    for name in names {
        text.push_str(&stamp(&name, &fs::symlink_metadata(&name)?));
    }
    Ok(text)
}

fn stamp(path: &Path, meta: &Metadata) -> String {
    format!(
        "{} {} {}.{}\n",
        path.display(),
        meta.ino(),
        meta.ctime(),
        meta.ctime_nsec()
    )
}

/// What a tree takes on a disk, on its own file system only.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![folder.to_owned()];
    let device = fs::metadata(folder)?.dev();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let content = if meta.is_file() { meta.len() } else { BLOCK };
            bytes += content.next_multiple_of(BLOCK) + INODE;
            if meta.is_dir() && meta.dev() == device {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}
