//! Images in a folder: an OCI layout, or what `docker save` writes. The folder may be a stranger's.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;

use crate::digest::hex_of;
use crate::error::{ImageError, Result};
use crate::job::{check_digest, hash_file};
use crate::manifest::{
    ConfigFile, Descriptor, Document, MAX_DOCUMENT_BYTES, Manifest, SavedImage, choose, parse,
    sha256_of,
};

/// Links may lead anywhere in the folder, as `docker save` writes them, but not out of it.
const CONFINED: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);
/// Not blocking: a pipe in place of a file would keep us waiting.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);

/// A folder that may hold an image.
pub(crate) struct Layout {
    root: OwnedFd,
    what: String,
}

/// The parts of the image for this machine.
pub(crate) struct Parts {
    pub(crate) config: ConfigFile,
    pub(crate) digest: String,
    /// In the order of the config's layers.
    pub(crate) blobs: Vec<Blob>,
}

/// A layer as it lies in the folder.
pub(crate) struct Blob {
    path: String,
    /// SHA-256 of the file where something states it; the unpacked layer is always checked.
    sha256: Option<String>,
}

impl Layout {
    pub(crate) fn open(folder: &Path, what: &str) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = open(folder, flags, Mode::empty())
            .map_err(|e| ImageError::io("open", folder)(e.into()))?;
        Ok(Self {
            root,
            what: what.to_owned(),
        })
    }

    /// The image, or `None` when this is no layout of either kind.
    pub(crate) fn read(&self) -> Result<Option<Parts>> {
        if let Some(bytes) = self.document("index.json")? {
            return self.read_oci(&bytes).map(Some);
        }
        if let Some(bytes) = self.document("manifest.json")? {
            return self.read_saved(&bytes).map(Some);
        }
        Ok(None)
    }

    /// Whether this looks like the root of a system.
    pub(crate) fn is_root_fs(&self) -> bool {
        ["usr", "bin", "etc", "lib"].iter().any(|name| {
            openat2(
                &self.root,
                *name,
                OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                CONFINED,
            )
            .is_ok()
        })
    }

    /// The layer's file, checked as far as anything states its digest.
    pub(crate) fn blob(&self, blob: &Blob) -> Result<File> {
        let mut file = self
            .file(&blob.path)?
            .ok_or_else(|| self.malformed(format!("`{}` is missing", blob.path)))?;
        if let Some(expected) = &blob.sha256 {
            let actual = hash_file(&mut file).map_err(ImageError::io("read", &blob.path))?;
            check_digest(
                &format!("`{}` of {}", blob.path, self.what),
                expected,
                &actual,
            )?;
        }
        Ok(file)
    }

    fn read_oci(&self, index: &[u8]) -> Result<Parts> {
        let mut document: Document = parse(&self.what, index)?;
        let mut digest = format!("sha256:{}", hex_of(index));
        // The index of the layout may lead to the index of an image with several platforms.
        for _ in 0..2 {
            let Document::Index { manifests } = &document else {
                break;
            };
            let chosen = choose(&self.what, manifests)?;
            digest.clone_from(&chosen.digest);
            document = parse(&self.what, &self.described(chosen)?)?;
        }
        let Document::Image(Manifest { config, layers }) = document else {
            return Err(self.malformed("its indexes are nested too deep"));
        };
        let blobs = layers.iter().map(|layer| {
            Ok(Blob {
                path: blob_path(&layer.digest)?,
                sha256: Some(sha256_of(&layer.digest)?.to_owned()),
            })
        });
        Ok(Parts {
            config: parse(&self.what, &self.described(&config)?)?,
            digest,
            blobs: blobs.collect::<Result<_>>()?,
        })
    }

    fn read_saved(&self, manifest: &[u8]) -> Result<Parts> {
        let images: Vec<SavedImage> = parse(&self.what, manifest)?;
        let [image] = images.as_slice() else {
            let tags = images
                .iter()
                .flat_map(|image| image.repo_tags.iter().flatten());
            let tags = tags.take(32).cloned().collect::<Vec<_>>().join(", ");
            return Err(self.malformed(format!("it holds not one image but: {tags}")));
        };
        let config = self
            .document(&image.config)?
            .ok_or_else(|| self.malformed("its config is missing"))?;
        let blobs = image.layers.iter().map(|path| Blob {
            path: path.clone(),
            sha256: None,
        });
        Ok(Parts {
            digest: format!("sha256:{}", hex_of(&config)),
            config: parse(&self.what, &config)?,
            blobs: blobs.collect(),
        })
    }

    /// The document that a descriptor means, checked.
    fn described(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = blob_path(&descriptor.digest)?;
        let bytes = self
            .document(&path)?
            .ok_or_else(|| self.malformed(format!("`{path}` is missing")))?;
        let what = format!("`{path}` of {}", self.what);
        check_digest(&what, sha256_of(&descriptor.digest)?, &hex_of(&bytes))?;
        Ok(bytes)
    }

    fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(ImageError::io("read", path))?;
        if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
            return Err(self.malformed(format!("`{path}` is too large")));
        }
        Ok(Some(bytes))
    }

    /// A plain file in the folder; `None` when nothing has this name.
    fn file(&self, path: &str) -> Result<Option<File>> {
        let file = match openat2(&self.root, path, READ, Mode::empty(), CONFINED) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            other => other
                .map(File::from)
                .map_err(|e| ImageError::io("open", path)(e.into()))?,
        };
        let meta = file.metadata().map_err(ImageError::io("look at", path))?;
        if meta.is_file() {
            Ok(Some(file))
        } else {
            Err(self.malformed(format!("`{path}` is not a file")))
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> ImageError {
        ImageError::malformed(self.what.as_str(), reason)
    }
}

fn blob_path(digest: &str) -> Result<String> {
    Ok(format!("blobs/sha256/{}", sha256_of(digest)?))
}

/// Opens a plain file of the host for reading from its start.
pub(crate) fn open_archive(path: &Path) -> Result<File> {
    let open = || {
        let file = File::from(rustix::fs::openat(CWD, path, READ, Mode::empty())?);
        if file.metadata()?.is_file() {
            Ok(file)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"))
        }
    };
    open().map_err(ImageError::io("open", path))
}
