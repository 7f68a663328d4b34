//! The names: one small JSON file for each image, replaced as a whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use skerry_types::ImageId;

use crate::error::{ImageError, Result};
use crate::image::{Bind, Config, Image, Kind};

/// What the store remembers of an image; layers are named, not placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: uuid::Uuid,
    pub(crate) reference: String,
    pub(crate) digest: String,
    /// Folder names under `layers/`, lowest first.
    pub(crate) layers: Vec<String>,
    #[serde(default)]
    pub(crate) binds: Vec<Bind>,
    pub(crate) config: Config,
    pub(crate) size_bytes: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) kind: Kind,
}

impl Record {
    /// The image as its users see it.
    pub(crate) fn image(&self, layers: &Path) -> Image {
        Image {
            id: ImageId::from_uuid(self.id),
            reference: self.reference.clone(),
            digest: self.digest.clone(),
            layers: self.layers.iter().map(|name| layers.join(name)).collect(),
            binds: self.binds.clone(),
            config: self.config.clone(),
            size_bytes: self.size_bytes,
            created_at: self.created_at,
            kind: self.kind,
        }
    }
}

/// Reads every record of the folder; a damaged one is reported and left alone.
pub(crate) fn read_all(folder: &Path) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImageError::io("list", folder))? {
        let path = entry.map_err(ImageError::io("list", folder))?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        match read(&path) {
            Ok(record) => records.push(record),
            Err(error) => tracing::warn!(path = %path.display(), %error, "skipping an image"),
        }
    }
    Ok(records)
}

fn read(path: &Path) -> Result<Record> {
    let text = fs::read(path).map_err(ImageError::io("read", path))?;
    serde_json::from_slice(&text).map_err(|source| ImageError::Record {
        path: path.to_owned(),
        source,
    })
}

/// Writes the record so that a crash leaves the old one or the new one.
pub(crate) fn write(folder: &Path, record: &Record) -> Result<()> {
    let path = record_path(folder, &record.reference);
    let text = serde_json::to_vec_pretty(record).map_err(|source| ImageError::Record {
        path: path.clone(),
        source,
    })?;
    let replace = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&text)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(folder)?.sync_all()
    };
    replace().map_err(ImageError::io("write", &path))
}

/// Forgets the name; nothing happens when it is not there.
pub(crate) fn remove(folder: &Path, reference: &str) -> Result<()> {
    let path = record_path(folder, reference);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::io("remove", &path)(e))
        }
        _ => Ok(()),
    }
}

/// A reference has slashes and may be long, so its file is named by its hash.
fn record_path(folder: &Path, reference: &str) -> PathBuf {
    folder.join(format!("{}.json", crate::digest::hex_of(reference.as_bytes())))
}
