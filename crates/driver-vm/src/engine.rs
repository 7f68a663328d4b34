//! QEMU, the guest's kernel and its first programs: found, and laid out once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};

use crate::accelerator::Accelerator;
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::options::Options;

/// The oldest QEMU that maps memory files as this needs it.
const OLDEST: (u32, u32) = (8, 2);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// The tree that QEMU is in.
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initial_files: PathBuf,
    pub(crate) accelerator: Accelerator,
    pub(crate) version: String,
    /// All of it but the accelerator.
    programs: String,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("cannot run QEMU from {path}: {source}")]
    Qemu {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("QEMU is {found}; {}.{} or newer is needed", OLDEST.0, OLDEST.1)]
    TooOld { found: String },
    #[error("no kernel with modules is below {path}: {source}")]
    Kernel {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the initial file system: {0}")]
    InitialFiles(#[source] io::Error),
}

impl Engine {
    /// Finds the programs and writes the initial file system.
    pub(crate) fn open(options: &Options, layout: &Layout) -> Result<Self, EngineError> {
        let version = version(&options.tools.qemu)?;
        let no_kernel = |source| EngineError::Kernel {
            path: options.tools.kernel.clone(),
            source,
        };
        let kernel = Kernel::find(&options.tools.kernel).map_err(no_kernel)?;
        let files = kernel.initial_files(options.guest, options.agent);
        let files = files.map_err(EngineError::InitialFiles)?;
        let image = kernel.image.display().to_string();
        let programs = digest(&[version.as_bytes(), image.as_bytes(), &files]);
        let initial_files = layout.initial_files(&programs);
        if !initial_files.is_file() {
            publish(&initial_files, &files).map_err(EngineError::InitialFiles)?;
        }
        Ok(Self {
            qemu: options.tools.qemu.clone(),
            kernel: kernel.image,
            initial_files,
            accelerator: Accelerator::Tcg,
            version,
            programs,
        })
    }

    /// What a kept machine can only be restored with.
    pub(crate) fn key(&self) -> String {
        let accelerator = self.accelerator.as_str();
        digest(&[self.programs.as_bytes(), accelerator.as_bytes()])
    }
}

/// A file that is there whole or not at all.
fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(new, path)
}

/// Half of a SHA-256 over all parts, as a name.
pub(crate) fn digest(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn version(tree: &Path) -> Result<String, EngineError> {
    let path = tree.join("usr/bin/qemu-system-x86_64");
    let output = Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .map_err(|source| EngineError::Qemu { path, source })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    let version = line.strip_prefix("QEMU emulator version ").unwrap_or(line);
    if parse(version).is_some_and(|version| version >= OLDEST) {
        Ok(version.to_owned())
    } else {
        Err(EngineError::TooOld {
            found: version.to_owned(),
        })
    }
}

fn parse(version: &str) -> Option<(u32, u32)> {
    let number = version.split_ascii_whitespace().next()?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(parse("10.0.2 (Debian 1:10.0.2+ds-2)").unwrap() >= OLDEST);
        assert!(parse("7.2.22 (Debian 1:7.2)").unwrap() < OLDEST);
        assert_eq!(parse("unknown"), None);
    }
}
