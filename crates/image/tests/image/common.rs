//! What the tests share: a store in a folder of its own, archives of every kind, and images made of them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use skerry_image::{Images, Limits, Options, Reach};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

/// A store that is gone with the test.
pub(crate) struct Store {
    pub(crate) folder: TempDir,
    pub(crate) images: Images,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        Self::opened(Options {
            limits,
            reach: Reach::new(|_| None, Vec::new()),
            ..Options::default()
        })
    }

    pub(crate) fn opened(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = Images::open_with(folder.path(), options).unwrap();
        Self { folder, images }
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// What is left of work that ended, however it ended.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        names(&self.folder.path().join("images/work"))
    }

    pub(crate) fn layers(&self) -> Vec<String> {
        names(&self.folder.path().join("images/layers"))
    }
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().fold("sha256:".to_owned(), |text, byte| {
        format!("{text}{byte:02x}")
    })
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 0).unwrap()
}

/// Writes archives, also such as no honest tool writes.
pub(crate) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.file_mode(path, content, 0o644)
    }

    pub(crate) fn file_mode(mut self, path: &str, content: &[u8], mode: u32) -> Self {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(content.len() as u64);
        self.0.append_data(&mut header, path, content).unwrap();
        self
    }

    pub(crate) fn folder(mut self, path: &str) -> Self {
        let mut header = header(EntryType::Directory, 0o755);
        self.0
            .append_data(&mut header, path, std::io::empty())
            .unwrap();
        self
    }

    /// An entry whose names are written as they are.
    pub(crate) fn raw(mut self, kind: EntryType, path: &[u8], link: &[u8]) -> Self {
        let mut header = header(kind, 0o644);
        header.set_size(0);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_cksum();
        self.0.append(&header, std::io::empty()).unwrap();
        self
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Symlink, path.as_bytes(), target.as_bytes())
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.raw(EntryType::Link, path.as_bytes(), target.as_bytes())
    }

    /// Extended headers for the entry that follows.
    pub(crate) fn pax(mut self, fields: &[(&str, &[u8])]) -> Self {
        self.0
            .append_pax_extensions(fields.iter().copied())
            .unwrap();
        self
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    header
}

/// An image as documents and blobs, by digest.
pub(crate) struct TestImage {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    /// Compressed layers, lowest first.
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) tars: Vec<Vec<u8>>,
}

impl TestImage {
    pub(crate) fn new(tars: Vec<Vec<u8>>) -> Self {
        Self::with_arch(tars, arch())
    }

    pub(crate) fn with_arch(tars: Vec<Vec<u8>>, arch: &str) -> Self {
        let diff_ids: Vec<String> = tars.iter().map(|tar| sha256(tar)).collect();
        let config = serde_json::json!({
            "architecture": arch, "os": "linux",
            "config": {"User": "app:staff", "Env": ["A=1", "B=x=y"], "WorkingDir": "/srv/app",
                       "Entrypoint": ["/entry"], "Cmd": ["go"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let compress = |(at, tar): (usize, &Vec<u8>)| match at % 2 {
            0 => gzip(tar),
            _ => zstd(tar),
        };
        let layers: Vec<_> = tars.iter().enumerate().map(compress).collect();
        let mut image = Self {
            manifest: Vec::new(),
            config: serde_json::to_vec(&config).unwrap(),
            layers,
            tars,
        };
        image.manifest = image.manifest_of(&image.layers);
        image
    }

    pub(crate) fn manifest_of(&self, layers: &[Vec<u8>]) -> Vec<u8> {
        let describe = |kind: &str, bytes: &[u8]| {
            let kind = format!("application/vnd.oci.image.{kind}");
            serde_json::json!({"mediaType": kind, "digest": sha256(bytes), "size": bytes.len()})
        };
        let layer = |bytes: &Vec<u8>| match bytes[..2] {
            [0x1f, 0x8b] => describe("layer.v1.tar+gzip", bytes),
            _ => describe("layer.v1.tar+zstd", bytes),
        };
        let manifest = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": describe("config.v1+json", &self.config),
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        serde_json::to_vec(&manifest).unwrap()
    }

    /// An index that leads to this image on this machine, and to nothing useful on others.
    pub(crate) fn index(&self) -> Vec<u8> {
        let index = serde_json::json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(b"other"), "size": 5,
                 "platform": {"os": "linux", "architecture": "s390x"}},
                {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": sha256(&self.manifest),
                 "size": self.manifest.len(), "platform": {"os": "linux", "architecture": arch()}},
            ],
        });
        serde_json::to_vec(&index).unwrap()
    }

    pub(crate) fn blobs(&self) -> BTreeMap<String, Vec<u8>> {
        let parts = [self.manifest.clone(), self.config.clone()];
        let parts = parts.into_iter().chain(self.layers.clone());
        parts.map(|bytes| (sha256(&bytes), bytes)).collect()
    }

    /// The files of an OCI layout.
    pub(crate) fn oci_layout(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files: BTreeMap<_, _> = self
            .blobs()
            .into_iter()
            .map(|(digest, bytes)| (format!("blobs/{}", digest.replace(':', "/")), bytes))
            .collect();
        files.insert("index.json".to_owned(), self.index());
        files.insert(
            "oci-layout".to_owned(),
            br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec(),
        );
        files
    }

    /// The files that `docker save` writes.
    pub(crate) fn docker_save(&self) -> BTreeMap<String, Vec<u8>> {
        let layers: Vec<String> = (0..self.tars.len())
            .map(|at| format!("{at}/layer.tar"))
            .collect();
        let manifest = serde_json::json!([
            {"Config": "config.json", "RepoTags": ["demo:latest"], "Layers": layers}
        ]);
        let mut files: BTreeMap<_, _> = layers.into_iter().zip(self.tars.clone()).collect();
        files.insert("config.json".to_owned(), self.config.clone());
        files.insert(
            "manifest.json".to_owned(),
            serde_json::to_vec(&manifest).unwrap(),
        );
        files
    }
}

/// Files as one plain archive.
pub(crate) fn archive(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let tar = files
        .iter()
        .fold(Tar::new(), |tar, (name, bytes)| tar.file(name, bytes));
    tar.done()
}

/// Files in a folder.
pub(crate) fn spread(files: &BTreeMap<String, Vec<u8>>, folder: &Path) {
    for (name, bytes) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

pub(crate) fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
