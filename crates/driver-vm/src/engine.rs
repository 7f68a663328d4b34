//! QEMU, the guest's kernel and its first programs: found, and laid out once.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use skerry_driver::Accelerator;
use skerry_sys::folder;

use crate::kernel::Kernel;
use crate::machine;
use crate::options::{Programs, Tools};

/// The oldest QEMU that maps memory files as this needs it.
const OLDEST: (u32, u32) = (8, 2);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Engine {
    /// The tree that QEMU is in.
    pub(crate) qemu: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initial_files: PathBuf,
    pub(crate) version: String,
    /// What all of them are, in short.
    pub(crate) programs: String,
}

/// Why virtual machines cannot run here.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// There is no QEMU, or it does not run.
    #[error("cannot run QEMU, {path}: {source}")]
    Qemu {
        /// The program.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot do what is needed.
    #[error("QEMU is {found}; {}.{} or newer is needed", OLDEST.0, OLDEST.1)]
    TooOld {
        /// The version that is there.
        found: String,
    },
    /// No kernel for guests.
    #[error("no kernel with its modules is in {path}: {source}")]
    Kernel {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room for what guests begin with.
    #[error("cannot write the initial file system: {0}")]
    InitialFiles(#[source] io::Error),
}

impl Engine {
    /// Finds the programs and writes the initial file system into `folder`.
    pub(crate) fn open(
        tools: &Tools,
        programs: Programs,
        folder: &Path,
    ) -> Result<Self, EngineError> {
        let version = version(&tools.qemu)?;
        let no_kernel = |source| EngineError::Kernel {
            path: tools.kernel.clone(),
            source,
        };
        let kernel = Kernel::find(&tools.kernel).map_err(no_kernel)?;
        let files = kernel.initial_files(programs.guest, programs.agent);
        let files = files.map_err(EngineError::InitialFiles)?;
        let image = kernel.image.display().to_string();
        let programs = digest(&[version.as_bytes(), image.as_bytes(), &files]);
        let initial_files = folder.join(&programs);
        if !initial_files.is_file() {
            publish(&initial_files, &files).map_err(EngineError::InitialFiles)?;
        }
        Ok(Self {
            qemu: tools.qemu.clone(),
            kernel: kernel.image,
            initial_files,
            version,
            programs,
        })
    }

    /// What a kept machine can only be restored with.
    pub(crate) fn key(&self, accelerator: Accelerator) -> String {
        digest(&[
            self.programs.as_bytes(),
            machine::kind(accelerator).as_bytes(),
        ])
    }

    pub(crate) fn program(&self) -> PathBuf {
        program(&self.qemu)
    }

    /// Where its firmware is.
    pub(crate) fn firmware(&self) -> [PathBuf; 2] {
        ["usr/share/qemu", "usr/share/seabios"].map(|folder| self.qemu.join(folder))
    }

    /// The release of the guests' kernel.
    pub(crate) fn kernel_release(&self) -> String {
        let name = self.kernel.file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        name.trim_start_matches("vmlinuz-").to_owned()
    }
}

/// A file that is there whole or not at all.
fn publish(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    folder::publish(&new, path)
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

fn program(tree: &Path) -> PathBuf {
    tree.join("usr/bin/qemu-system-x86_64")
}

fn version(tree: &Path) -> Result<String, EngineError> {
    let path = program(tree);
    let output = Command::new(&path)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let output = output.and_then(|output| {
        if output.status.success() {
            return Ok(output.stdout);
        }
        // A library that is missing, as when its tree was unpacked and never installed.
        Err(io::Error::other(
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        ))
    });
    let stdout = output.map_err(|source| EngineError::Qemu { path, source })?;
    let text = String::from_utf8_lossy(&stdout).into_owned();
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
