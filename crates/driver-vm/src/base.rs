//! Base disks: the layers of an image on one file system, made once and never written again.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use skerry_sys::folder;
use tokio::process::Command;
use tokio::time::timeout;

use crate::engine::digest;
use crate::launcher;
use crate::layout::{self, Layout};

/// A file system needs more than what is in it.
const SPARE_KIB: u64 = 16 * 1024;
const BLOCK: u64 = 4096;
/// What a file costs beside its content.
const INODE: u64 = 512;
/// An image that takes longer is too large for a machine.
const MAKING: Duration = Duration::from_mins(15);

/// What an image is on its base disk.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) key: String,
    /// Folders of the host, lowest first.
    sources: Vec<PathBuf>,
}

impl Base {
    /// Looks at an image's layers, lowest first. One that has changed since has another key.
    pub(crate) fn of(layers: &[PathBuf]) -> io::Result<Self> {
        let mut looks = Vec::new();
        for layer in layers {
            looks.push(look(layer)?);
        }
        let looks: Vec<&[u8]> = looks.iter().map(String::as_bytes).collect();
        Ok(Self {
            key: digest(&looks),
            sources: layers.to_vec(),
        })
    }

    /// What the layers are called on the disk, lowest first.
    pub(crate) fn layers(&self) -> Vec<String> {
        let numbers = 0..self.sources.len();
        numbers.map(|number| format!("layer{number}")).collect()
    }

    /// Makes the disk. Takes seconds for each 100 MiB.
    pub(crate) async fn make(&self, layout: &Layout, launcher: &[OsString]) -> io::Result<()> {
        let disk = layout.base(&self.key);
        let (new, stage) = (disk.with_extension("new"), disk.with_extension("stage"));
        layout::make(&stage)?;
        // One that a killed server began may still be written to.
        layout::remove_file(&new)?;
        fs::File::create_new(&new)?;
        layout.remove_templates(&self.key)?;
        let kib = self.kib().await?;
        let trees = self.sources.iter().map(PathBuf::as_path).zip(self.layers());
        let made = run(launcher, launcher::base_command(&stage, &new, kib, trees)).await;
        fs::remove_dir(stage)?;
        made?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o444))?;
        tokio::task::spawn_blocking(move || folder::publish(&new, &disk)).await?
    }

    /// How large the disk must be.
    async fn kib(&self) -> io::Result<u64> {
        let sources = self.sources.clone();
        let sizes = move || sources.iter().map(|source| size(source)).sum();
        let bytes: io::Result<u64> = tokio::task::spawn_blocking(sizes).await?;
        let kib = bytes? / 1024;
        // Block groups, tables of inodes and folders that are fuller than they look.
        Ok(kib + kib / 8 + SPARE_KIB)
    }
}

async fn run(launcher: &[OsString], args: Vec<OsString>) -> io::Result<()> {
    let (program, first) = launcher.split_first().ok_or(ErrorKind::InvalidInput)?;
    let output = Command::new(program)
        .args(first)
        .args(args)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .output();
    let output = timeout(MAKING, output).await??;
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
