//! The folder that a build copies from: each copy step's files as an archive that is the same as long as the files are.

use std::fs::{self, File};
use std::io::{self, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest, Sha256};
use skerry_api::recipe::{Ignore, wild};
use tar::{Builder, EntryType, Header};

use super::failure::Failure;

/// When every file was changed, as far as the archive says: what a build makes of them shall not depend on when they came here.
const MTIME: u64 = 1_000_000_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct BuildContext {
    folder: PathBuf,
    ignore: Ignore,
}

/// A copy step's files.
#[derive(Debug)]
pub(crate) struct Packed {
    /// An archive, from its start.
    pub(crate) archive: File,
    /// The SHA-256 of its bytes.
    pub(crate) hash: String,
    pub(crate) bytes: u64,
}

impl BuildContext {
    /// With the `.dockerignore` that is in it.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let at = || format!("cannot read {}", folder.display());
        let canonical = folder.canonicalize().with_context(at)?;
        fs::read_dir(&canonical).with_context(at)?;
        let ignore = match fs::read_to_string(canonical.join(".dockerignore")) {
            Ok(file) => Ignore::new(&file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ignore::default(),
            Err(error) => return Err(error).context("cannot read .dockerignore"),
        };
        Ok(Self {
            folder: canonical,
            ignore,
        })
    }

    /// The paths that a source with `*` and `?` means. One without is itself.
    pub(crate) fn expand(&self, source: &str) -> anyhow::Result<Vec<String>> {
        let mut found = vec![String::new()];
        for part in source.split('/').filter(|part| !matches!(*part, "" | ".")) {
            let mut next = Vec::new();
            for folder in found {
                if part.contains(['*', '?']) {
                    let names = self.names(&folder).unwrap_or_default();
                    let fitting = names.into_iter().filter(|name| wild(part, name));
                    next.extend(fitting.map(|name| below(&folder, &name)));
                } else {
                    next.push(below(&folder, part));
                }
            }
            found = next;
        }
        found.retain(|path| path.is_empty() || !self.ignore.matches(path));
        if found.is_empty() {
            let text = format!("no file of the context is `{source}`");
            return Err(Failure::failed(text)
                .hint(".dockerignore may leave it out")
                .into());
        }
        Ok(found)
    }

    /// Puts these paths into an archive, under the same names.
    pub(crate) fn pack(&self, paths: &[String]) -> anyhow::Result<Packed> {
        let mut archive = Builder::new(Hashing::new()?);
        archive.follow_symlinks(false);
        for path in paths {
            let at = || {
                format!(
                    "cannot pack {}",
                    if path.is_empty() { "the context" } else { path }
                )
            };
            self.stays_inside(path)?;
            self.add(&mut archive, path).with_context(at)?;
        }
        let Hashing {
            mut file,
            digest,
            bytes,
        } = archive.into_inner()?;
        file.rewind()?;
        let hash = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(Packed {
            archive: file,
            hash,
            bytes,
        })
    }

    /// A link on the way must not lead out of the context.
    fn stays_inside(&self, path: &str) -> anyhow::Result<()> {
        let whole = self.folder.join(path);
        let folder = whole.parent().filter(|_| !path.is_empty());
        let folder = folder.unwrap_or(&self.folder).canonicalize();
        if folder.is_ok_and(|folder| !folder.starts_with(&self.folder)) {
            return Err(Failure::failed(format!("{path} leads out of the context")).into());
        }
        Ok(())
    }

    fn add(&self, archive: &mut Builder<Hashing>, path: &str) -> io::Result<()> {
        let whole = self.folder.join(path);
        let found = fs::symlink_metadata(&whole)?;
        let mut header = Header::new_gnu();
        header.set_mtime(MTIME);
        header.set_mode(found.permissions().mode() & 0o777);
        header.set_size(0);
        if found.is_dir() {
            header.set_entry_type(EntryType::Directory);
            if !path.is_empty() && !self.ignore.matches(path) {
                archive.append_data(&mut header, path, io::empty())?;
            }
            for name in self.names(path)? {
                let inside = below(path, &name);
                let is_left_out = self.ignore.matches(&inside);
                let may_have_more = self.ignore.takes_back() && self.folder.join(&inside).is_dir();
                if !is_left_out || may_have_more {
                    self.add(archive, &inside)?;
                }
            }
            return Ok(());
        }
        if found.is_symlink() {
            header.set_entry_type(EntryType::Symlink);
            return archive.append_link(&mut header, path, fs::read_link(&whole)?);
        }
        if !found.is_file() {
            return Err(io::Error::other(format!(
                "{path} is no file, folder or link"
            )));
        }
        let file = File::open(&whole)?;
        header.set_size(file.metadata()?.len());
        archive.append_data(&mut header, path, file)
    }

    /// What is in a folder, by name.
    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.folder.join(folder))? {
            let name = entry?.file_name().into_string();
            names.push(name.map_err(|_| io::Error::other("a name is not UTF-8"))?);
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn below(folder: &str, name: &str) -> String {
    if folder.is_empty() {
        return name.to_owned();
    }
    format!("{folder}/{name}")
}

/// A file that is hashed as it is written.
struct Hashing {
    file: File,
    digest: Sha256,
    bytes: u64,
}

impl Hashing {
    fn new() -> io::Result<Self> {
        Ok(Self {
            file: tempfile::tempfile()?,
            digest: Sha256::new(),
            bytes: 0,
        })
    }
}

impl Write for Hashing {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let written = self.file.write(data)?;
        self.digest.update(&data[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    fn context(ignore: &str) -> (tempfile::TempDir, BuildContext) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("src/deep")).unwrap();
        for name in [
            "a.txt",
            "b.txt",
            "src/main",
            "src/deep/x.log",
            "src/deep/keep.log",
        ] {
            fs::write(at(name), name).unwrap();
        }
        symlink("main", at("src/link")).unwrap();
        symlink("/etc", at("out")).unwrap();
        fs::write(at(".dockerignore"), ignore).unwrap();
        let context = BuildContext::open(folder.path()).unwrap();
        (folder, context)
    }

    fn packed(context: &BuildContext, paths: &[&str]) -> Vec<String> {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        let mut bytes = Vec::new();
        let mut packed = context.pack(&paths).unwrap();
        packed.archive.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len() as u64, packed.bytes);
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries().unwrap();
        let names = entries.map(|entry| entry.unwrap().path().unwrap().display().to_string());
        names.collect()
    }

    #[test]
    fn patterns_mean_files_and_ignored_ones_stay_behind() {
        let (_folder, context) = context("**/*.log\n!src/deep/keep.log\nb.txt\n");
        assert_eq!(context.expand("*.txt").unwrap(), ["a.txt"]);
        assert_eq!(
            context.expand("./src/*").unwrap(),
            ["src/deep", "src/link", "src/main"]
        );
        assert_eq!(context.expand(".").unwrap(), [""]);
        assert!(context.expand("b.txt").is_err() && context.expand("*.md").is_err());
        let there = [
            "src",
            "src/deep",
            "src/deep/keep.log",
            "src/link",
            "src/main",
        ];
        assert_eq!(packed(&context, &["src"]), there);
    }

    #[test]
    fn an_archive_changes_with_its_files_only() {
        let (folder, context) = context("");
        let hash = |paths: &[&str]| {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            context.pack(&paths).unwrap().hash
        };
        let before = hash(&["src"]);
        let main = folder.path().join("src/main");
        File::open(&main)
            .unwrap()
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_eq!(hash(&["src"]), before, "times do not matter");
        fs::set_permissions(&main, fs::Permissions::from_mode(0o755)).unwrap();
        let executable = hash(&["src"]);
        assert_ne!(executable, before);
        fs::write(&main, "other").unwrap();
        assert_ne!(hash(&["src"]), executable);
    }

    #[test]
    fn nothing_from_outside_is_packed() {
        let (_folder, context) = context("");
        assert!(context.pack(&["out/passwd".to_owned()]).is_err());
        assert_eq!(packed(&context, &["out"]), ["out"], "the link itself");
    }
}
