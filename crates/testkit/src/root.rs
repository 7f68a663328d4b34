//! A root file system with a shell and Python, put together from the packages of this Debian.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::tempdir_in;

/// What is in it, with all that they need.
const PACKAGES: [&str; 8] = [
    "dash",
    "coreutils",
    "sed",
    "grep",
    "python3",
    "libc-bin",
    "hostname",
    "openssh-client",
];
/// What nothing in it reads.
const LEFT_OUT: [&str; 4] = [
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/locale/",
    "/usr/lib/python3.11/test/",
];

/// The folder of one below `cache`, made by the first who asks.
pub fn small(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join(format!("small-root-of-{}", PACKAGES.len()));
    if !folder.is_dir() {
        let new = tempdir_in(cache)?;
        make(new.path()).context("making a small root file system")?;
        // Two at once: the one that comes later finds it there.
        drop(fs::rename(new.keep(), &folder));
    }
    Ok(folder)
}

/// The same as an archive.
pub fn small_archive(cache: &Path) -> Result<Vec<u8>> {
    let root = small(cache)?;
    let packed = Command::new("tar").arg("-cC").arg(root).arg(".").output();
    Ok(packed.context("packing a small root file system")?.stdout)
}

fn make(root: &Path) -> Result<()> {
    for name in [
        "tmp",
        "etc",
        "proc",
        "sys",
        "dev",
        "root",
        "home/user",
        "usr/bin",
        "usr/lib",
        "usr/lib64",
        "usr/sbin",
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    for name in ["bin", "lib", "lib64", "sbin"] {
        symlink(format!("usr/{name}"), root.join(name))?;
    }
    fs::set_permissions(root.join("tmp"), Permissions::from_mode(0o1777))?;
    fs::set_permissions(root, Permissions::from_mode(0o755))?;
    let users = "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users)?;
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    fs::copy("/etc/ld.so.cache", root.join("etc/ld.so.cache"))?;
    symlink("dash", root.join("usr/bin/sh"))?;
    chown(root.join("home/user"), Some(1000), Some(1000))?;
    for file in files()? {
        // Merged folders: what a package calls /bin is /usr/bin.
        let file = Path::new(&file);
        let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else {
            continue;
        };
        let real = folder.canonicalize()?.join(name);
        copy(&real, &root.join(real.strip_prefix("/")?))?;
    }
    Ok(())
}

/// What is not there was left out of this machine too.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let Ok(meta) = fs::symlink_metadata(from) else {
        return Ok(());
    };
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    if meta.is_symlink() {
        match symlink(fs::read_link(from)?, to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    } else if meta.is_file() {
        fs::copy(from, to)?;
    }
    Ok(())
}

fn files() -> Result<Vec<String>> {
    let mut wanted: Vec<String> = PACKAGES.map(str::to_owned).into();
    let mut seen = BTreeSet::new();
    let mut files = Vec::new();
    while let Some(package) = wanted.pop() {
        if !seen.insert(package.clone()) {
            continue;
        }
        let listed = output("dpkg", &["-L", &package])?;
        let kept = |file: &&str| {
            !LEFT_OUT.iter().any(|left| file.starts_with(left))
                && file.starts_with('/')
                && file.len() > 2
        };
        files.extend(listed.lines().filter(kept).map(str::to_owned));
        let fields = ["-W", "-f", "${Depends}, ${Pre-Depends}", &package];
        let needs = output("dpkg-query", &fields)?;
        let names = needs
            .split([',', '|'])
            .filter_map(|need| need.split_whitespace().next());
        wanted.extend(names.filter_map(|name| name.split(':').next().map(str::to_owned)));
    }
    Ok(files)
}

/// What a program says; nothing if it knows nothing.
fn output(program: &str, args: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(args).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
