//! The image store as control and the HTTP edge want to see it.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use skerry_api::{Image as ApiImage, PullEvent, PullImage, RegistryLogin};
use skerry_control::ImageCatalogue;
use skerry_http::ImageService;
use skerry_image::{Auth, Image, ImageError, Images, Kind, Phase, Progress, Update};
use skerry_proto::node::ByteStream;
use skerry_types::{Error, ErrorCode, Result};
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};

/// See the module.
#[derive(Debug)]
pub(crate) struct Service(pub(crate) Arc<Images>);

#[async_trait]
impl ImageCatalogue for Service {
    async fn resolve(&self, reference: &str) -> Result<Option<String>> {
        match self.0.resolve(reference) {
            Ok(image) => Ok(Some(image.reference.clone())),
            Err(ImageError::Unknown { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn digest(&self, name: &str) -> Result<String> {
        Ok(self.0.resolve(name)?.digest.clone())
    }

    async fn fetch(&self, reference: &str, login: Option<(String, String)>) -> Result<()> {
        let auth = login.map_or(Auth::Anonymous, |(user, password)| Auth::Basic {
            user,
            password,
        });
        let got = self.0.refresh(reference, auth, Progress::none());
        Ok(got.await.map(drop)?)
    }

    async fn names(&self) -> Result<Vec<String>> {
        let images = self.0.list()?;
        Ok(images.iter().map(|i| i.reference.clone()).collect())
    }
}

#[async_trait]
impl ImageService for Service {
    async fn list(&self) -> Result<Vec<ApiImage>> {
        Ok(self.0.list()?.iter().map(|i| shown(i)).collect())
    }

    async fn inspect(&self, reference: &str) -> Result<ApiImage> {
        let (image, _) = self.0.inspect(reference).map_err(not_here)?;
        Ok(shown(&image))
    }

    async fn pull(&self, request: PullImage) -> Result<BoxStream<'static, Result<PullEvent>>> {
        let images = Arc::clone(&self.0);
        let (events, receiver) = mpsc::channel(16);
        let (sender, updates) = watch::channel(None);
        tokio::spawn(forward(updates, events.clone()));
        tokio::spawn(async move {
            let auth = request.login.map_or(Auth::Anonymous, auth);
            let progress = Progress::watch(sender);
            let got = images.refresh(&request.reference, auth, progress).await;
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
        let archive = spool(archive, self.0.scratch()?).await?;
        let image = self
            .0
            .import_scratch(archive, &reference, Progress::none())
            .await?;
        Ok(shown(&image))
    }

    async fn remove(&self, reference: &str) -> Result<()> {
        // Sandboxes hold the images that they run on.
        self.0.remove(reference, |_| None).map_err(not_here)
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
async fn spool(mut archive: ByteStream, file: File) -> Result<File> {
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
    let mut writer = tokio::fs::File::from_std(file);
    while let Some(bytes) = archive.try_next().await? {
        writer.write_all(&bytes).await.map_err(failed)?;
    }
    writer.flush().await.map_err(failed)?;
    Ok(writer.into_std().await)
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
