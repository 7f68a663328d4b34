//! The engine's images that are ours: copies of our layers, and what was committed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use bollard::errors::Error as EngineError;
use bollard::models::ContainerConfig;
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateImageOptionsBuilder, ListImagesOptionsBuilder,
    RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use bollard::{Docker, body_try_stream};
use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use skerry_driver::DriverError;
use skerry_types::{SandboxId, SnapshotId};
use tokio::sync::Mutex;
use tokio_util::io::{ReaderStream, SyncIoBridge};

use crate::driver::is_missing;
use crate::tree;

/// Bytes on their way from our layers to the engine.
const PIPE: usize = 1024 * 1024;

/// Images by what they are for.
#[derive(Debug)]
pub(crate) struct Images {
    api: Docker,
    /// What all our names begin with.
    root: String,
    /// Held by whoever looks for a copy of layers and may have to make it.
    copying: Mutex<()>,
}

/// A name with its tag.
#[derive(Debug, Clone)]
pub(crate) struct Name {
    repo: String,
    tag: String,
}

impl Name {
    pub(crate) fn whole(&self) -> String {
        format!("{}:{}", self.repo, self.tag)
    }
}

impl Images {
    pub(crate) fn new(api: Docker, scope: &str) -> Self {
        Self {
            api,
            root: format!("localhost/skerry-{scope}"),
            copying: Mutex::default(),
        }
    }

    /// What a sandbox that is a copy starts from.
    pub(crate) fn of_sandbox(&self, id: SandboxId) -> Name {
        self.name("sandbox", id.label())
    }

    pub(crate) fn of_snapshot(&self, id: SnapshotId) -> Name {
        self.name("snapshot", id.label())
    }

    fn name(&self, kind: &str, tag: String) -> Name {
        Name {
            repo: format!("{}/{kind}", self.root),
            tag,
        }
    }

    /// The engine's copy of these layers, made if there is none. Takes seconds for each 100 MiB.
    pub(crate) async fn of_layers(&self, layers: &[PathBuf]) -> Result<Name, DriverError> {
        let key = key(layers).map_err(DriverError::step("look at the image's layers"))?;
        let name = self.name("image", key);
        let _only_one = self.copying.lock().await;
        if !self.exists(&name).await? {
            self.copy(layers.to_vec(), &name).await?;
        }
        Ok(name)
    }

    async fn copy(&self, layers: Vec<PathBuf>, name: &Name) -> Result<(), DriverError> {
        let (ours, engines) = tokio::io::duplex(PIPE);
        let ours = SyncIoBridge::new(ours);
        let packing = tokio::task::spawn_blocking(move || tree::pack(&layers, ours));
        let options = CreateImageOptionsBuilder::new().from_src("-").build();
        let body = body_try_stream(ReaderStream::with_capacity(engines, PIPE));
        let said = self.api.create_image(Some(options), Some(body), None);
        let said: Result<Vec<_>, _> = said.try_collect().await;
        let packed = packing.await.map_err(io::Error::other).flatten();
        let said = said.map_err(DriverError::step("give the engine the image"))?;
        let made = said.into_iter().rev().find_map(|line| line.status);
        let made = made.ok_or_else(|| io::Error::other("the engine did not say what it made"));
        let made = made.map_err(DriverError::step("give the engine the image"))?;
        // An archive that ends early may look whole.
        if let Err(error) = packed {
            self.remove_named(&made).await?;
            return Err(DriverError::step("pack the image's layers")(error));
        }
        self.tag(&made, name).await
    }

    /// Gives an image one more name; it lives as long as it has any.
    pub(crate) async fn tag(&self, image: &str, name: &Name) -> Result<(), DriverError> {
        let options = TagImageOptionsBuilder::new()
            .repo(&name.repo)
            .tag(&name.tag)
            .build();
        let tagged = self.api.tag_image(image, Some(options)).await;
        tagged.map_err(DriverError::step("name the image"))
    }

    /// Keeps what a container has written, with what was below.
    pub(crate) async fn commit(
        &self,
        container: &str,
        name: &Name,
        hold: bool,
    ) -> Result<(), EngineError> {
        let options = CommitContainerOptionsBuilder::new()
            .container(container)
            .repo(&name.repo)
            .tag(&name.tag)
            .pause(hold)
            .build();
        let committed = self
            .api
            .commit_container(options, ContainerConfig::default());
        committed.await.map(drop)
    }

    pub(crate) async fn exists(&self, name: &Name) -> Result<bool, DriverError> {
        match self.api.inspect_image(&name.whole()).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(DriverError::step("look for the image")(error)),
        }
    }

    /// What it takes on disk, what it shares with others included.
    pub(crate) async fn bytes(&self, name: &Name) -> Result<u64, DriverError> {
        let image = self.api.inspect_image(&name.whole()).await;
        let image = image.map_err(DriverError::step("look at the image"))?;
        Ok(image
            .size
            .unwrap_or_default()
            .try_into()
            .unwrap_or_default())
    }

    /// Takes a name away. Fine if there is none.
    pub(crate) async fn remove(&self, name: &Name) -> Result<(), DriverError> {
        self.remove_named(&name.whole()).await
    }

    async fn remove_named(&self, name: &str) -> Result<(), DriverError> {
        let options = RemoveImageOptionsBuilder::new().build();
        match self.api.remove_image(name, Some(options), None).await {
            Err(error) if !is_missing(&error) => Err(DriverError::step("remove the image")(error)),
            _ => Ok(()),
        }
    }

    pub(crate) async fn snapshots(&self) -> Result<Vec<SnapshotId>, DriverError> {
        let tags = self.tags("snapshot").await?;
        Ok(tags.iter().filter_map(|tag| tag.parse().ok()).collect())
    }

    /// Removes every copy of layers.
    pub(crate) async fn forget_layers(&self) -> Result<(), DriverError> {
        for tag in self.tags("image").await? {
            self.remove(&self.name("image", tag)).await?;
        }
        Ok(())
    }

    /// The tags of all images of one kind.
    async fn tags(&self, kind: &str) -> Result<Vec<String>, DriverError> {
        let options = ListImagesOptionsBuilder::new().build();
        let images = self.api.list_images(Some(options)).await;
        let images = images.map_err(DriverError::step("list images"))?;
        let prefix = format!("{}/{kind}:", self.root);
        let names = images.iter().flat_map(|image| &image.repo_tags);
        let tags = names.filter_map(|name| name.strip_prefix(&prefix));
        Ok(tags.map(str::to_owned).collect())
    }
}

/// Layers that have changed since have another key.
fn key(layers: &[PathBuf]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for layer in layers {
        let meta = fs::metadata(layer)?;
        let (inode, changed) = (meta.ino(), (meta.ctime(), meta.ctime_nsec()));
        hash.update(format!("{} {inode} {changed:?}\n", layer.display()));
    }
    let hash = hash.finalize();
    Ok(hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
