//! Pulling from a registry: manifest, config and layers, each checked against its digest.

mod client;
mod login;

use std::fmt;
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use oci_spec::distribution::Reference;
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use tokio::time::timeout;

use crate::digest::{hex, hex_of};
use crate::error::{ImageError, Result};
use crate::image::{Image, Kind};
use crate::job::{Job, Reporter, check_digest};
use crate::manifest::{
    ConfigFile, Descriptor, Document, MAX_DOCUMENT_BYTES, Manifest, choose, parse, sha256_of,
};
use crate::progress::{Phase, Progress};
use crate::reference;
use crate::store::{Images, Inner};

use client::Client;

/// For a login or a document as a whole.
const DOCUMENT_TIMEOUT: Duration = Duration::from_mins(1);
/// Whoever sends a layer more slowly than this keeps a place for nothing.
const SLOWEST_BYTES_PER_SECOND: u64 = 16 * 1024;
/// Layers that are fetched at once.
const PARALLEL: usize = 3;
/// A transfer goes on where it was cut off at most this often.
const CUTS: u32 = 6;
/// The first wait after a cut; each next one is twice as long.
const AFTER_CUT: Duration = Duration::from_millis(100);

/// Who asks a registry.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nobody in particular.
    #[default]
    Anonymous,
    /// A user with a password, which the registry may exchange for a token.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// Someone with a token.
    Token(String),
}

impl fmt::Debug for Auth {
    /// Secrets are not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic",
            Self::Token(_) => "Token",
        })
    }
}

impl Images {
    /// Gets the image from its registry; layers that are here already are not fetched again.
    ///
    /// Only from where the store's [`Reach`](crate::Reach) is open. Dropping the future stops the work and leaves at most
    /// complete layers, for the next try or for [`Images::collect`].
    pub async fn pull(
        &self,
        reference: &str,
        auth: Auth,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let source = Source::new(&self.inner, reference::registry(reference)?, auth)?;
        let name = source.image.whole();
        progress.report(Phase::Resolving, 0, 0, format!("asking for {name}"));
        in_time(&name, DOCUMENT_TIMEOUT, source.client.log_in(&name)).await?;
        let (manifest, digest) = source.manifest().await?;
        let config: ConfigFile = source.config(&manifest.config).await?;
        config.check_platform(&name)?;
        let layers = config.layers()?;
        if layers.len() != manifest.layers.len() {
            let reason = "manifest and config name different numbers of layers";
            return Err(ImageError::malformed(name, reason));
        }
        let sizes = manifest.layers.iter().map(|layer| layer.size);
        let bytes = sizes.fold(0, u64::saturating_add);
        let most = self.inner.limits.bytes;
        if bytes > most {
            let reason = format!("its layers have more than {most} bytes");
            return Err(ImageError::malformed(name, reason));
        }
        let job = Job::new(
            self.inner.clone(),
            &name,
            layers.clone(),
            bytes,
            progress.clone(),
        )?;
        let meter = Reporter::new(
            progress,
            Phase::Downloading,
            bytes,
            format!("getting {name}"),
        );
        // Made before the stream: a closure that lives in it would keep this future from being `Send`.
        let downloads: Vec<_> = layers
            .iter()
            .zip(&manifest.layers)
            .map(|(layer, blob)| {
                let download = source.download(&self.inner, blob, &meter);
                job.layer(layer, source.image.resolve_registry(), download)
            })
            .collect();
        stream::iter(downloads)
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await?;
        job.enter(name, digest, Kind::Oci, config.into_config())
            .await
    }
}

/// One image in one registry.
struct Source {
    client: Client,
    image: Reference,
}

impl Source {
    fn new(inner: &Inner, image: Reference, auth: Auth) -> Result<Self> {
        let client = Client::new(inner.reach.clone(), &image, auth)?;
        Ok(Self { client, image })
    }

    /// The manifest for this machine, and the digest of what the name means.
    async fn manifest(&self) -> Result<(Manifest, String)> {
        let (document, digest) = self.document(&self.image).await?;
        let what = self.image.whole();
        let entries = match document {
            Document::Image(manifest) => return Ok((manifest, digest)),
            Document::Index { manifests } => manifests,
        };
        let chosen = &choose(&what, &entries)?.digest;
        sha256_of(chosen)?;
        let image = self.image.clone_with_digest(chosen.clone());
        match self.document(&image).await?.0 {
            Document::Image(manifest) => Ok((manifest, digest)),
            Document::Index { .. } => {
                Err(ImageError::malformed(what, "an index leads to an index"))
            }
        }
    }

    /// A manifest or index, whose bytes have the digest by which it was asked for.
    async fn document(&self, image: &Reference) -> Result<(Document, String)> {
        let what = format!("the manifest of {}", image.whole());
        let name = image.digest().or(image.tag()).unwrap_or("latest");
        let bytes = in_time(&what, DOCUMENT_TIMEOUT, self.client.manifest(&what, name)).await?;
        let actual = hex_of(&bytes);
        if let Some(digest) = image.digest() {
            check_digest(&what, sha256_of(digest)?, &actual)?;
        }
        Ok((parse(&what, &bytes)?, format!("sha256:{actual}")))
    }

    async fn config(&self, descriptor: &Descriptor) -> Result<ConfigFile> {
        let what = format!("the config of {}", self.image.whole());
        if descriptor.size > MAX_DOCUMENT_BYTES {
            return Err(ImageError::malformed(what, "it is too large"));
        }
        let mut bytes = Vec::new();
        let fetch = self.fetch(&what, descriptor, &mut bytes, |_| ());
        in_time(&what, DOCUMENT_TIMEOUT, fetch).await?;
        parse(&what, &bytes)
    }

    /// A layer in a nameless file, read from its start.
    async fn download(
        &self,
        inner: &Inner,
        descriptor: &Descriptor,
        meter: &Reporter,
    ) -> Result<File> {
        let what = format!("a layer of {}", self.image.whole());
        let mut file = inner.scratch()?;
        let fetch = self.fetch(&what, descriptor, &mut file, |n| meter.add(n));
        let slowest = Duration::from_secs(descriptor.size / SLOWEST_BYTES_PER_SECOND);
        in_time(&what, DOCUMENT_TIMEOUT + slowest, fetch).await?;
        file.done()
            .map_err(ImageError::io("read", &inner.folders.work))
    }

    /// Exactly the promised bytes, or an error; never more than promised are taken.
    async fn fetch(
        &self,
        what: &str,
        descriptor: &Descriptor,
        out: &mut impl Write,
        tell: impl Fn(usize),
    ) -> Result<()> {
        let expected = sha256_of(&descriptor.digest)?;
        let mut hash = Sha256::new();
        let mut length = 0;
        let mut take = |chunk: &[u8]| {
            length += chunk.len() as u64;
            if length > descriptor.size {
                return Err(wrong_size(what, descriptor, length));
            }
            hash.update(chunk);
            tell(chunk.len());
            out.write_all(chunk)
                .map_err(ImageError::io("write", what))?;
            Ok(())
        };
        let mut taken = 0;
        let mut cuts = 0;
        while let Err(error) = self.stream(what, descriptor, &mut taken, &mut take).await {
            if taken == 0 || cuts == CUTS || !matches!(error, ImageError::Unreachable { .. }) {
                return Err(error);
            }
            tracing::debug!(what, taken, cuts, "a transfer was cut off");
            tokio::time::sleep(AFTER_CUT * (1 << cuts)).await;
            cuts += 1;
        }
        if length != descriptor.size {
            return Err(wrong_size(what, descriptor, length));
        }
        check_digest(what, expected, &hex(&hash.finalize()))
    }

    /// Hands on the bytes of a blob from byte `taken`, which moves with them.
    async fn stream(
        &self,
        what: &str,
        descriptor: &Descriptor,
        taken: &mut u64,
        take: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut answer = self.client.blob(what, &descriptor.digest, *taken).await?;
        // A registry may begin anew nevertheless.
        let goes_on = answer.status() == StatusCode::PARTIAL_CONTENT;
        let mut skip = if goes_on { 0 } else { *taken };
        while let Some(chunk) = self.client.chunk(&mut answer).await? {
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let new = &chunk[usize::try_from(known).unwrap_or(chunk.len())..];
            take(new)?;
            *taken += new.len() as u64;
        }
        Ok(())
    }
}

/// What takes longer is given up.
async fn in_time<T>(
    what: &str,
    limit: Duration,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let silent = |_| ImageError::RegistrySilent {
        what: what.to_owned(),
    };
    timeout(limit, work).await.map_err(silent)?
}

fn wrong_size(what: &str, descriptor: &Descriptor, actual: u64) -> ImageError {
    ImageError::Size {
        what: what.to_owned(),
        expected: descriptor.size,
        actual,
    }
}
