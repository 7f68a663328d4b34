//! The store: layers by content, images by name, and who uses them now.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use parking_lot::RwLock;
use skerry_types::ImageId;

use crate::error::{ImageError, Result};
use crate::host;
use crate::image::{Image, Kind};
use crate::index::{self, Record};

/// The name of the image that needs no download.
pub const HOST: &str = "host";

/// All images of this machine. Cheap to clone; one process owns the folder.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    folders: Folders,
    /// We are root, so layers keep their owners and drivers map the ids.
    ids_mapped: bool,
    images: RwLock<HashMap<String, Entry>>,
}

#[derive(Clone)]
struct Entry {
    record: Record,
    image: Arc<Image>,
}

/// Where things are, all under `<data>/images`.
pub(crate) struct Folders {
    pub(crate) layers: PathBuf,
    pub(crate) index: PathBuf,
    /// Work that is under way; emptied at start.
    pub(crate) work: PathBuf,
}

impl Images {
    /// Opens the store under `data_dir`, made if need be, and clears away what a crash left.
    ///
    /// The folder is closed to other users: a layer may hold setuid programs of strangers.
    pub fn open(data_dir: impl AsRef<Path>) -> Result<Self> {
        let root = data_dir.as_ref().join("images");
        let folders = Folders {
            layers: root.join("layers"),
            index: root.join("index"),
            work: root.join("work"),
        };
        if folders.work.exists() {
            fs::remove_dir_all(&folders.work)
                .map_err(ImageError::io("clear", &folders.work))?;
        }
        for folder in [&folders.layers, &folders.index, &folders.work] {
            fs::create_dir_all(folder).map_err(ImageError::io("make", folder))?;
        }
        fs::set_permissions(&root, Permissions::from_mode(0o700))
            .map_err(ImageError::io("protect", &root))?;
        let images = index::read_all(&folders.index)?
            .into_iter()
            .filter(|record| has_layers(&folders, record))
            .map(|record| (record.reference.clone(), Entry::new(record, &folders)))
            .collect();
        Ok(Self {
            inner: Arc::new(Inner {
                folders,
                ids_mapped: rustix::process::geteuid().is_root(),
                images: RwLock::new(images),
            }),
        })
    }

    /// The image of that name if it is on this machine; `host` always is.
    ///
    /// Takes microseconds, except for the first time that `host` is asked for after the host changed.
    pub fn resolve(&self, reference: &str) -> Result<Arc<Image>> {
        if reference == HOST {
            return self.resolve_host();
        }
        let images = self.inner.images.read();
        match images.get(reference) {
            Some(entry) => Ok(entry.image.clone()),
            None => Err(ImageError::Unknown {
                reference: reference.chars().take(256).collect(),
                known: images.keys().cloned().collect(),
            }),
        }
    }

    fn resolve_host(&self) -> Result<Arc<Image>> {
        let inner = &*self.inner;
        let content = host::fingerprint(inner.ids_mapped);
        if let Some(entry) = inner.images.read().get(HOST)
            && entry.record.layers == [content.as_str()]
        {
            return Ok(entry.image.clone());
        }
        let tree = inner.folders.work_folder()?;
        host::build(tree.path(), inner.ids_mapped)?;
        inner.folders.keep_layer(tree, &content)?;
        inner.enter(Record {
            id: ImageId::new().uuid(),
            reference: HOST.to_owned(),
            digest: format!("sha256:{content}"),
            layers: vec![content],
            binds: host::binds(),
            config: host::config(inner.ids_mapped),
            size_bytes: 0,
            created_at: Timestamp::now(),
            kind: Kind::Host,
        })
    }
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Images")
            .field("layers", &self.inner.folders.layers)
            .finish_non_exhaustive()
    }
}

impl Inner {
    /// Writes the record and makes the image known.
    fn enter(&self, record: Record) -> Result<Arc<Image>> {
        index::write(&self.folders.index, &record)?;
        let entry = Entry::new(record, &self.folders);
        let image = entry.image.clone();
        self.images
            .write()
            .insert(image.reference.clone(), entry);
        Ok(image)
    }
}

impl Entry {
    fn new(record: Record, folders: &Folders) -> Self {
        let image = Arc::new(record.image(&folders.layers));
        Self { record, image }
    }
}

impl Folders {
    /// An empty folder for work, removed with its handle.
    pub(crate) fn work_folder(&self) -> Result<tempfile::TempDir> {
        tempfile::tempdir_in(&self.work).map_err(ImageError::io("make a folder in", &self.work))
    }

    /// Makes a finished tree the layer of that name; a layer that is there already stays.
    pub(crate) fn keep_layer(&self, tree: tempfile::TempDir, name: &str) -> Result<()> {
        let path = self.layers.join(name);
        match fs::rename(tree.path(), &path) {
            Err(_) if path.is_dir() => Ok(()),
            Err(e) => Err(ImageError::io("move a layer to", &path)(e)),
            Ok(()) => {
                // Nothing is left to remove at the old place.
                let _gone = tree.keep();
                Ok(())
            }
        }
    }
}

fn has_layers(folders: &Folders, record: &Record) -> bool {
    let complete = record
        .layers
        .iter()
        .all(|name| folders.layers.join(name).is_dir());
    if !complete {
        tracing::warn!(reference = record.reference, "an image lost its layers");
    }
    complete
}
