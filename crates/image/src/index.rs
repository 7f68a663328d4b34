//! The names: one small JSON file for each image, replaced as a whole or not at all.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::{ImageError, Result};
use crate::image::Image;

/// Reads every record of the folder, layers placed under `layers`; a damaged record is reported and left out.
pub(crate) fn read_all(folder: &Path, layers: &Path) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for entry in fs::read_dir(folder).map_err(ImageError::io("list", folder))? {
        let path = entry.map_err(ImageError::io("list", folder))?.path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        match read(&path, layers) {
            Ok(image) => images.push(image),
            Err(error) => tracing::warn!(path = %path.display(), %error, "leaving out an image"),
        }
    }
    Ok(images)
}

fn read(path: &Path, layers: &Path) -> Result<Image> {
    let text = fs::read(path).map_err(ImageError::io("read", path))?;
    let mut image: Image = serde_json::from_slice(&text).map_err(|source| ImageError::Record {
        path: path.to_owned(),
        source,
    })?;
    for layer in &mut image.layers {
        *layer = layers.join(&*layer);
    }
    Ok(image)
}

/// Writes the record so that a crash leaves the old one or the new one.
///
/// Layers are written as names, not places, so that the data folder can move.
pub(crate) fn write(folder: &Path, image: &Image) -> Result<()> {
    let path = record_path(folder, &image.reference);
    let names = image.layers.iter().filter_map(|layer| layer.file_name());
    let record = Image {
        layers: names.map(PathBuf::from).collect(),
        ..image.clone()
    };
    let text = serde_json::to_vec_pretty(&record).map_err(|source| ImageError::Record {
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
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ImageError::io("remove", &path)(e)),
        _ => Ok(()),
    }
}

/// A reference has slashes and may be long, so its file is named by its hash.
fn record_path(folder: &Path, reference: &str) -> PathBuf {
    folder.join(format!(
        "{}.json",
        crate::digest::hex_of(reference.as_bytes())
    ))
}
