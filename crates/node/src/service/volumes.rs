//! Volumes, and what is in them.

use async_trait::async_trait;
use skerry_proto::node::{ByteStream, VolumeAttributes, VolumeEntry, VolumeReport, Volumes};
use skerry_types::{Error, Result, VolumeId};

use crate::node::Node;
use crate::volumes::{self, Content, Shelf};

#[async_trait]
impl Volumes for Node {
    async fn create_volume(&self, id: VolumeId, limit_bytes: u64) -> Result<VolumeReport> {
        self.on_shelf(move |shelf| shelf.create(id, limit_bytes))
            .await
    }

    async fn list_volumes(&self) -> Result<Vec<VolumeId>> {
        self.on_shelf(Shelf::all).await
    }

    async fn volume_report(&self, id: VolumeId) -> Result<VolumeReport> {
        self.on_shelf(move |shelf| shelf.report(id)).await
    }

    async fn remove_volume(&self, id: VolumeId) -> Result<()> {
        self.on_shelf(move |shelf| shelf.remove(id)).await
    }

    async fn stat_in_volume(&self, id: VolumeId, path: &str) -> Result<VolumeEntry> {
        let path = path.to_owned();
        self.in_volume(id, move |content| content.stat(&path)).await
    }

    async fn list_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        depth: u32,
        after: &str,
        limit: u32,
    ) -> Result<(Vec<VolumeEntry>, bool)> {
        let (path, after) = (path.to_owned(), after.to_owned());
        self.in_volume(id, move |content| {
            volumes::list(content, &path, depth, &after, limit)
        })
        .await
    }

    async fn make_dir_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        parents: bool,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        volumes::check(attributes)?;
        let path = path.to_owned();
        self.in_volume(id, move |content| {
            content.make_dir(&path, parents, attributes)
        })
        .await
    }

    async fn read_in_volume(&self, id: VolumeId, path: &str) -> Result<(VolumeEntry, ByteStream)> {
        let path = path.to_owned();
        self.in_volume(id, move |content| volumes::read(content, &path))
            .await
    }

    async fn write_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        parents: bool,
        attributes: VolumeAttributes,
        content: ByteStream,
    ) -> Result<VolumeEntry> {
        volumes::check(attributes)?;
        let path = path.to_owned();
        let begin = move |content: &Content| volumes::write(content, &path, parents, attributes);
        let mut draft = self.in_volume(id, begin).await?;
        draft.fill(content).await?;
        self.in_volume(id, move |content| draft.put(content)).await
    }

    async fn change_in_volume(
        &self,
        id: VolumeId,
        path: &str,
        attributes: VolumeAttributes,
    ) -> Result<VolumeEntry> {
        volumes::check(attributes)?;
        let path = path.to_owned();
        self.in_volume(id, move |content| content.change(&path, attributes))
            .await
    }

    async fn remove_in_volume(&self, id: VolumeId, path: &str) -> Result<()> {
        let path = path.to_owned();
        self.in_volume(id, move |content| volumes::remove(content, &path))
            .await
    }
}

impl Node {
    /// Runs what blocks where it may.
    async fn on_shelf<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shelf) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shelf = self.shelf.clone();
        let done = tokio::task::spawn_blocking(move || work(&shelf)).await;
        done.map_err(Error::internal)?
    }

    async fn in_volume<T: Send + 'static>(
        &self,
        id: VolumeId,
        work: impl FnOnce(&Content) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.on_shelf(move |shelf| work(&shelf.open(id)?)).await
    }
}
