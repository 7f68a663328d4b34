//! What the edge needs of images; the binary implements it over the image store.

use async_trait::async_trait;
use futures::stream::BoxStream;
use skerry_api::{Image, PullEvent, PullImage};
use skerry_proto::node::ByteStream;
use skerry_types::{OrgId, Result};

/// The images on this machine.
#[async_trait]
pub trait ImageService: Send + Sync {
    /// All of them, by name.
    async fn list(&self) -> Result<Vec<Image>>;
    /// The one with this name or id.
    async fn inspect(&self, reference: &str) -> Result<Image>;
    /// Gets one: any number of progress items, then done or an error. Goes on when nobody reads.
    async fn pull(
        &self,
        org: OrgId,
        request: PullImage,
    ) -> Result<BoxStream<'static, Result<PullEvent>>>;
    /// Unpacks an archive (`docker save`, OCI) under this name.
    async fn import(&self, reference: String, archive: ByteStream) -> Result<Image>;
    /// Removes one; a conflict while a sandbox uses it.
    async fn remove(&self, reference: &str) -> Result<()>;
}
