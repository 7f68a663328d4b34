//! The guest's kernel, the modules it needs, and the initial file system that carries them with the guest's first programs.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::cpio::Archive;

/// What is the same in every machine.
const EARLY: &[&str] = &["virtio_pci", "virtio_console", "virtio_rng"];
/// What is not, file systems, and what ends connections.
const LATE: &[&str] = &["virtio_blk", "virtio_net", "overlay", "tcp_diag"];

/// A kernel with its modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// The program.
    pub(crate) image: PathBuf,
    modules: PathBuf,
}

impl Kernel {
    /// Finds the newest kernel of a tree whose modules are there too, the smaller "cloud" flavour first.
    pub(crate) fn find(tree: &Path) -> io::Result<Self> {
        let mut releases: Vec<OsString> = Vec::new();
        for entry in fs::read_dir(tree.join("lib/modules"))? {
            releases.push(entry?.file_name());
        }
        releases.sort_by_key(|release| {
            let text = release.to_string_lossy().into_owned();
            (text.contains("cloud"), numbers(&text))
        });
        let kernels = releases.iter().rev().map(|release| {
            let mut image = OsString::from("vmlinuz-");
            image.push(release);
            Self {
                image: tree.join("boot").join(image),
                modules: tree.join("lib/modules").join(release),
            }
        });
        let mut whole = kernels.filter(|kernel| kernel.image.is_file());
        whole.next().ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The initial file system with these programs.
    pub(crate) fn initial_files(&self, guest: &[u8], agent: &[u8]) -> io::Result<Vec<u8>> {
        let mut archive = Archive::default();
        for folder in ["dev", "modules"] {
            archive.folder(folder);
        }
        // Without these a program cannot even start.
        archive.node("dev/console", (5, 1));
        archive.node("dev/null", (1, 3));
        archive.program("init", guest);
        archive.file("agent", agent);
        let mut loaded = HashSet::new();
        for (list, wanted) in [("modules/early", EARLY), ("modules/late", LATE)] {
            let mut order = Vec::new();
            for name in wanted {
                self.collect(name, &mut loaded, &mut order)?;
            }
            let names: String = order.iter().map(|(name, _)| format!("{name}\n")).collect();
            archive.file(list, names.as_bytes());
            for (name, content) in order {
                archive.file(&format!("modules/{name}"), &content);
            }
        }
        Ok(archive.finish())
    }

    /// A module after those it depends on. One that is not there is built in.
    fn collect(
        &self,
        name: &str,
        loaded: &mut HashSet<String>,
        order: &mut Vec<(String, Vec<u8>)>,
    ) -> io::Result<()> {
        if !loaded.insert(name.to_owned()) {
            return Ok(());
        }
        let Some(path) = find_module(&self.modules.join("kernel"), name)? else {
            return Ok(());
        };
        let content = fs::read(path)?;
        for needed in dependencies(&content) {
            self.collect(&needed, loaded, order)?;
        }
        order.push((name.to_owned(), content));
        Ok(())
    }
}

/// The numbers in a release, to compare releases by.
fn numbers(release: &str) -> Vec<u64> {
    let words = release.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

fn find_module(folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find_module(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.extension().is_some_and(|ext| ext == "ko")
            && (path.file_stem()).is_some_and(|stem| canonical(&stem.to_string_lossy()) == name)
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// In a module's name the two are the same.
fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// What a module says it needs, in its own file.
fn dependencies(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let list = module[at + KEY.len()..].split(|&byte| byte == 0).next();
    let list = String::from_utf8_lossy(list.unwrap_or_default()).into_owned();
    list.split(',')
        .filter(|name| !name.is_empty())
        .map(canonical)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        let module = b"\x7fELF..\0license=GPL\0depends=virtio_ring,virtio-core\0retpoline=Y\0";
        assert_eq!(dependencies(module), ["virtio_ring", "virtio_core"]);
        assert_eq!(dependencies(b"\0depends=\0"), Vec::<String>::new());
        assert_eq!(dependencies(b"nothing"), Vec::<String>::new());
    }

    #[test]
    fn releases_compare_by_their_numbers() {
        assert!(numbers("6.1.0-56-cloud-amd64") > numbers("6.1.0-9-cloud-amd64"));
    }
}
