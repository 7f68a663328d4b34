//! Images from files of this machine: archives and folders.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::error::{ImageError, Result};
use crate::image::{Image, Kind};
use crate::job::{Cancel, Job, Reporter};
use crate::layout::{Layout, Parts, open_archive};
use crate::manifest::ConfigFile;
use crate::pack::pack;
use crate::progress::{Phase, Progress};
use crate::reference;
use crate::room::Scratch;
use crate::store::{Images, Inner};
use crate::unpack::{Budget, Tap, UnpackError, decompress, unpack};

impl Images {
    /// Takes an image from what `docker save` wrote, an OCI layout or a root file system in one tar
    /// archive, plain or compressed with gzip or zstd. Known as `name[:tag]` from then on.
    pub async fn import_archive(
        &self,
        path: impl AsRef<Path>,
        name: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let file = open_archive(path.as_ref())?;
        let what = path.as_ref().display().to_string();
        self.import_opened(file, what, name, progress).await
    }

    /// As [`Images::import_archive`], from a file made by [`Images::scratch`].
    pub async fn import_scratch(
        &self,
        archive: Scratch,
        name: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let what = "the archive".to_owned();
        let archive = archive.done().map_err(ImageError::io("read", &what))?;
        self.import_opened(archive, what, name, progress).await
    }

    /// For an archive that comes in pieces.
    pub fn scratch(&self) -> Result<Scratch> {
        self.inner.scratch()
    }

    async fn import_opened(
        &self,
        file: File,
        what: String,
        name: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let name = reference::local(name)?;
        let bytes = file
            .metadata()
            .map_err(ImageError::io("look at", &what))?
            .len();
        let message = format!("reading {what}");
        let meter = Reporter::new(progress.clone(), Phase::Unpacking, bytes, message);
        let limits = self.inner.limits.clone();
        let (tree, digest) = self
            .unpack_tree(what.clone(), move |budget, inner, target| {
                let tar = decompress(Tap::new(file, move |n| meter.add(n)), &limits)?;
                unpack(tar, target, inner.ids, budget)
            })
            .await?;
        let layout = Layout::open(tree.path(), &what)?;
        if let Some(parts) = find(&layout, &what)? {
            return self
                .import_parts(layout, parts, name, &what, progress)
                .await;
        }
        self.import_tree(tree, digest, name, &what, progress).await
    }

    /// Takes an image from an OCI layout, an unpacked `docker save` or a root file system in a folder.
    pub async fn import_folder(
        &self,
        path: impl AsRef<Path>,
        name: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let name = reference::local(name)?;
        let folder = path.as_ref().to_owned();
        let what = folder.display().to_string();
        let layout = Layout::open(&folder, &what)?;
        if let Some(parts) = find(&layout, &what)? {
            return self
                .import_parts(layout, parts, name, &what, progress)
                .await;
        }
        progress.report(Phase::Unpacking, 0, 0, format!("copying {what}"));
        let (tree, digest) = self
            .unpack_tree(what.clone(), move |budget, inner, target| {
                copy(&folder, target, inner, budget)
            })
            .await?;
        self.import_tree(tree, digest, name, &what, progress).await
    }

    /// Fills a new folder on a thread of its own, which stops when the future is dropped.
    async fn unpack_tree(
        &self,
        what: String,
        fill: impl FnOnce(&Budget, &Inner, &Path) -> Result<String, UnpackError> + Send + 'static,
    ) -> Result<(TempDir, String)> {
        let cancel = Cancel::new();
        let budget = self.inner.budget(cancel.flag());
        let inner = self.inner.clone();
        tokio::task::spawn_blocking(move || {
            let tree = inner.folders.work_folder()?;
            let digest = fill(&budget, &inner, tree.path()).map_err(ImageError::unpack(what))?;
            Ok((tree, digest))
        })
        .await?
    }

    async fn import_parts(
        &self,
        layout: Layout,
        parts: Parts,
        name: String,
        what: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        parts.config.check_platform(what)?;
        let layers = parts.config.layers()?;
        if layers.len() != parts.blobs.len() {
            let reason = "manifest and config name different numbers of layers";
            return Err(ImageError::malformed(what, reason));
        }
        let job = Job::new(self.inner.clone(), what, layers.clone(), 0, progress)?;
        let layout = Arc::new(layout);
        for (layer, blob) in layers.iter().zip(parts.blobs) {
            let layout = layout.clone();
            let open =
                async move { tokio::task::spawn_blocking(move || layout.blob(&blob)).await? };
            job.layer(layer, "an import", open).await?;
        }
        job.enter(name, parts.digest, Kind::Oci, parts.config.into_config())
            .await
    }

    async fn import_tree(
        &self,
        tree: TempDir,
        digest: String,
        name: String,
        what: &str,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let job = Job::new(self.inner.clone(), what, vec![digest.clone()], 0, progress)?;
        self.inner.folders.keep(tree, &digest)?;
        let config = ConfigFile::default().into_config();
        job.enter(name, format!("sha256:{digest}"), Kind::Oci, config)
            .await
    }
}

/// The parts of the image, or `None` for a root file system.
fn find(layout: &Layout, what: &str) -> Result<Option<Parts>> {
    let parts = layout.read()?;
    if parts.is_none() && !layout.is_root_fs() {
        let reason = "it is no OCI layout, no `docker save` archive and no root file system";
        return Err(ImageError::malformed(what, reason));
    }
    Ok(parts)
}

/// Packs the folder on one thread and unpacks it on this one.
fn copy(
    folder: &Path,
    target: &Path,
    inner: &Inner,
    budget: &Budget,
) -> Result<String, UnpackError> {
    let (reader, writer) = io::pipe()?;
    std::thread::scope(|scope| {
        let packed = scope.spawn(move || pack(folder, io::BufWriter::new(writer)));
        let unpacked = unpack(reader, target, inner.ids, budget);
        match packed.join() {
            Ok(Err(source)) if source.kind() != io::ErrorKind::BrokenPipe => {
                let path = PathBuf::from(folder).display().to_string();
                Err(UnpackError::Read { path, source })
            }
            _ => unpacked,
        }
    })
}
