//! What sandboxes start from.

use reqwest::{Body, Method};
use skerry_api::{Image, ImageList, PullEvent, PullImage, RegistryLogin};

use crate::client::Client;
use crate::error::Result;
use crate::retry::Repeat;
use crate::sse::Stream;

impl Client {
    /// The images on the server's machine.
    pub async fn images(&self) -> Result<ImageList> {
        self.get(&["images"], &()).await
    }

    /// One image.
    pub async fn image(&self, reference: &str) -> Result<Image> {
        self.get(&["images", reference], &()).await
    }

    /// Gets an image from a registry, or builds it; ends with [`PullEvent::Done`]. It goes on when the stream is dropped.
    pub async fn pull_image(
        &self,
        reference: &str,
        login: Option<RegistryLogin>,
    ) -> Result<Stream<PullEvent>> {
        let body = PullImage {
            reference: reference.to_owned(),
            login,
        };
        let request = self.request(Method::POST, &["images", "pull"]).json(&body);
        Ok(Stream::new(self.send(request, Repeat::Safe).await?))
    }

    /// Imports an archive that `docker save` or an OCI tool wrote.
    pub async fn import_image(&self, reference: &str, archive: impl Into<Body>) -> Result<Image> {
        let request = self
            .request(Method::POST, &["images", "import"])
            .query(&[("reference", reference)])
            .header("content-type", "application/x-tar")
            .body(archive);
        self.answer(request, Repeat::Safe).await
    }

    /// Removes an image; refused while a sandbox uses it.
    pub async fn remove_image(&self, reference: &str) -> Result<()> {
        let request = self.request(Method::DELETE, &["images", reference]);
        self.answer(request, Repeat::IfRefused).await
    }
}
