//! The image store as control and the HTTP edge want to see it.

use std::io::{self, Write};
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use skerry_api::{Image as ApiImage, PullEvent, PullImage, RegistryLogin};
use skerry_control::ImageCatalogue;
use skerry_http::ImageService;
use skerry_image::{Auth, Image, ImageError, Images, Kind, Phase, Progress, Scratch, Update};
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode, OrgId, Result};
use tokio::sync::{mpsc, watch};

use super::pulls::Pulls;

/// See the module.
#[derive(Debug)]
pub(crate) struct Service {
    images: Arc<Images>,
    pulls: Pulls,
}

impl Service {
    pub(crate) fn new(images: Arc<Images>) -> Self {
        let pulls = Pulls::default();
        Self { images, pulls }
    }
}

#[async_trait]
impl ImageCatalogue for Service {
    async fn resolve(&self, reference: &str) -> Result<Option<String>> {
        match self.images.resolve(reference) {
            Ok(image) => Ok(Some(image.reference.clone())),
            Err(ImageError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn digest(&self, name: &str) -> Result<String> {
        Ok(self.images.resolve(name)?.digest.clone())
    }

    async fn fetch(&self, reference: &str, login: Option<(String, String)>) -> Result<()> {
        let auth = login.map_or(Auth::Anonymous, |(user, password)| Auth::Basic {
            user,
            password,
        });
        let got = self.images.refresh(reference, auth, Progress::none());
        Ok(got.await.map(drop)?)
    }

    async fn names(&self) -> Result<Vec<String>> {
        let images = self.images.list()?;
        Ok(images.iter().map(|i| i.reference.clone()).collect())
    }
}

#[async_trait]
impl ImageService for Service {
    async fn list(&self) -> Result<Vec<ApiImage>> {
        Ok(self.images.list()?.iter().map(|i| shown(i)).collect())
    }

    async fn inspect(&self, reference: &str) -> Result<ApiImage> {
        let (image, _) = self.images.inspect(reference).map_err(not_here)?;
        Ok(shown(&image))
    }

    async fn pull(
        &self,
        org: OrgId,
        request: PullImage,
    ) -> Result<BoxStream<'static, Result<PullEvent>>> {
        let place = self.pulls.take(org)?;
        let images = Arc::clone(&self.images);
        let (events, receiver) = mpsc::channel(16);
        let (sender, updates) = watch::channel(None);
        tokio::spawn(forward(updates, events.clone()));
        tokio::spawn(async move {
            let auth = request.login.map_or(Auth::Anonymous, auth);
            let progress = Progress::watch(sender);
            let got = images.refresh(&request.reference, auth, progress).await;
            drop(place);
            let done = got
                .map(|image| PullEvent::Done {
                    image: shown(&image),
                })
                .map_err(Error::from);
            // Nobody reading is fine: the image is there.
            drop(events.send(done).await);
        });
        Ok(stream::unfold(receiver, |mut receiver| async move {
            Some((receiver.recv().await?, receiver))
        })
        .boxed())
    }

    async fn import(&self, reference: String, archive: ByteStream) -> Result<ApiImage> {
        let archive = spool(archive, self.images.scratch()?).await?;
        let image = self
            .images
            .import_scratch(archive, &reference, Progress::none())
            .await?;
        Ok(shown(&image))
    }

    async fn remove(&self, reference: &str) -> Result<()> {
        // Sandboxes hold the images that they run on.
        self.images.remove(reference, |_| None).map_err(not_here)
    }
}

fn auth(login: RegistryLogin) -> Auth {
    Auth::Basic {
        user: login.username,
        password: login.password,
    }
}

/// Who names an image to look at or to remove names a thing, not a value of a new one.
fn not_here(error: ImageError) -> Error {
    let is_unknown = matches!(error, ImageError::Unknown { .. });
    let error = Error::from(error);
    if is_unknown {
        return Error {
            code: ErrorCode::NotFound,
            ..error
        };
    }
    error
}

/// Sends on the newest report; a slow reader misses some.
async fn forward(
    mut updates: watch::Receiver<Option<Update>>,
    events: mpsc::Sender<Result<PullEvent>>,
) {
    while updates.changed().await.is_ok() {
        let Some(update) = updates.borrow_and_update().clone() else {
            continue;
        };
        if update.phase != Phase::Done && events.send(Ok(progress(update))).await.is_err() {
            return;
        }
    }
}

fn progress(update: Update) -> PullEvent {
    let phase = match update.phase {
        Phase::Resolving => "resolving",
        Phase::Downloading => "downloading",
        Phase::Unpacking => "unpacking",
        Phase::Building => "building",
        Phase::Done => "done",
    };
    PullEvent::Progress {
        phase: phase.to_owned(),
        done_bytes: update.done_bytes,
        total_bytes: update.total_bytes,
        message: update.message,
    }
}

/// An archive is read more than once, so it must be a file.
async fn spool(mut archive: ByteStream, mut file: Scratch) -> Result<Scratch> {
    let failed = |e: io::Error| {
        let full = matches!(
            e.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        let code = if full {
            ErrorCode::DiskFull
        } else {
            ErrorCode::InternalError
        };
        Error::new(code, format!("cannot keep the archive: {e}"))
    };
    while let Some(bytes) = archive.try_next().await? {
        file.write_all(&bytes).map_err(failed)?;
    }
    Ok(file)
}

fn shown(image: &Image) -> ApiImage {
    ApiImage {
        id: image.id,
        reference: image.reference.clone(),
        kind: match image.kind {
            Kind::Host => "host",
            Kind::Oci => "oci",
            Kind::Base => "base",
        }
        .to_owned(),
        digest: image.digest.clone(),
        size_bytes: image.size_bytes,
        created_at: image.created_at,
        user: image.config.user.clone(),
        workdir: image.config.workdir.clone(),
    }
}
