//! A root file system for the others: a few programs of this machine with their libraries, made once.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use crate::process::{find, output, words};

const PROGRAMS: [&str; 8] = ["sh", "true", "echo", "yes", "head", "sleep", "cat", "dd"];
const FOLDERS: [&str; 8] = ["bin", "dev", "etc", "proc", "run", "sys", "tmp", "root"];

/// The folder; beside it lies the same as `rootfs.tar`.
pub(crate) async fn make(cache: &Path) -> Result<PathBuf> {
    let root = cache.join("rootfs");
    let is_there = |name: &&str| root.join("bin").join(name).is_file();
    let has_users = root.join("etc/passwd").is_file();
    if cache.join("rootfs.tar").is_file() && has_users && PROGRAMS.iter().all(is_there) {
        return Ok(root);
    }
    for folder in FOLDERS {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
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

/// The same as an archive that `docker save` would write.
pub(crate) async fn archive(cache: &Path, scratch: &Path) -> Result<Vec<u8>> {
    let layer = scratch.join("layer.tar");
    fs::copy(cache.join("rootfs.tar"), &layer)?;
    let sum = output(&words(&format!("sha256sum {}", layer.display()))).await?;
    let digest = sum.split(' ').next().unwrap_or_default();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [], "Layers": ["layer.tar"] }]);
    fs::write(scratch.join("config.json"), config.to_string())?;
    fs::write(scratch.join("manifest.json"), manifest.to_string())?;
    let (from, to) = (scratch.display(), scratch.join("image.tar"));
    let files = "manifest.json config.json layer.tar";
    output(&words(&format!(
        "tar -C {from} -cf {} {files}",
        to.display()
    )))
    .await?;
    Ok(fs::read(to)?)
}

fn copy(from: &str, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(from, to).with_context(|| from.to_owned())?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
