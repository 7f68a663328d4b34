//! A root file system for the others: a few programs of this machine with their libraries, made once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{find, output, words};

const PROGRAMS: [&str; 7] = ["sh", "true", "echo", "yes", "head", "sleep", "cat"];
const FOLDERS: [&str; 8] = ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "root"];

/// The folder; beside it lies the same as `rootfs.tar`.
pub(crate) async fn make(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("rootfs");
    if cache.join("rootfs.tar").is_file() {
        return Ok(root);
    }
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    let mut libraries = BTreeSet::new();
    for name in PROGRAMS {
        let program = find(name).with_context(|| format!("no `{name}`"))?;
        copy(&program, &root.join("bin").join(name))?;
        let needs = output(&words(&format!("ldd {program}"))).await?;
        libraries.extend(
            needs
                .split_whitespace()
                .filter(|word| word.starts_with('/'))
                .map(str::to_owned),
        );
    }
    for library in libraries {
        copy(&library, &root.join(library.trim_start_matches('/')))?;
    }
    let (from, to) = (root.display(), cache.display());
    output(&words(&format!("tar -C {from} -cf {to}/rootfs.tar.new ."))).await?;
    fs::rename(cache.join("rootfs.tar.new"), cache.join("rootfs.tar"))?;
    Ok(root)
}

fn copy(from: &str, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| from.to_owned())?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
