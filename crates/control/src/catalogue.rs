//! What control needs to know about images; the binary implements it.

use async_trait::async_trait;
use skerry_types::Result;

/// The images there are.
#[async_trait]
pub trait ImageCatalogue: Send + Sync {
    /// The one name under which this image, as a caller wrote it, goes on the record; `None`: there is none and none can be had.
    async fn resolve(&self, reference: &str) -> Result<Option<String>>;
    /// What says which content an image on record has.
    async fn digest(&self, name: &str) -> Result<String>;
    /// Gets one from its registry, with this user name and password if there are any.
    async fn fetch(&self, reference: &str, login: Option<(String, String)>) -> Result<()>;
    /// Names of the images that exist, for the message that says which one does not.
    async fn names(&self) -> Result<Vec<String>>;
}
