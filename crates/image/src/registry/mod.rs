//! Pulling from a registry: manifest, config and layers, each checked against its digest.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use oci_client::client::{BlobResponse, ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError, OciEnvelope, OciErrorCode};
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference, RegistryOperation};
use sha2::{Digest, Sha256};

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

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// No byte for this long ends a transfer.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(1);
/// For a manifest as a whole.
const MANIFEST_TIMEOUT: Duration = Duration::from_mins(1);
/// Layers that are fetched at once.
const PARALLEL: usize = 3;
/// A transfer goes on where it was cut off at most this often.
const CUTS: u32 = 6;
/// The first wait after a cut; each next one is twice as long.
const AFTER_CUT: Duration = Duration::from_millis(100);
const MANIFEST_TYPES: &[&str] = &[
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

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
    /// Registries on this machine's loopback are spoken to without TLS. Dropping the future stops the work
    /// and leaves at most complete layers, for the next try or for [`Images::collect`].
    pub async fn pull(
        &self,
        reference: &str,
        auth: Auth,
        progress: Progress,
    ) -> Result<Arc<Image>> {
        let source = Source::new(reference::registry(reference)?, auth);
        let name = source.image.whole();
        progress.report(Phase::Resolving, 0, 0, format!("asking for {name}"));
        source.log_in().await?;
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
    auth: RegistryAuth,
}

impl Source {
    fn new(image: Reference, auth: Auth) -> Self {
        let registry = image.resolve_registry();
        let protocol = if is_loopback(registry) {
            ClientProtocol::HttpsExcept(vec![registry.to_owned()])
        } else {
            ClientProtocol::Https
        };
        let client = Client::new(ClientConfig {
            protocol,
            connect_timeout: Some(CONNECT_TIMEOUT),
            read_timeout: Some(SILENCE_TIMEOUT),
            user_agent: concat!("skerry/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        });
        let auth = match auth {
            Auth::Anonymous => RegistryAuth::Anonymous,
            Auth::Basic { user, password } => RegistryAuth::Basic(user, password),
            Auth::Token(token) => RegistryAuth::Bearer(token),
        };
        Self {
            client,
            image,
            auth,
        }
    }

    /// What went wrong, in our own words where it is one of the usual things.
    fn failed(&self, what: &str) -> impl FnOnce(OciDistributionError) -> ImageError {
        let image = self.image.whole();
        let registry = self.image.resolve_registry().to_owned();
        let what = format!("{what} {image}");
        move |error| match error {
            OciDistributionError::RequestError(e) => unreachable(registry, &e),
            OciDistributionError::IoError(e) => unreachable(registry, &e),
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => {
                ImageError::Login { registry, image }
            }
            OciDistributionError::ServerError { code: 404, .. }
            | OciDistributionError::ImageManifestNotFoundError(_) => ImageError::Missing { what },
            OciDistributionError::RegistryError { envelope, .. } if is_missing(&envelope) => {
                ImageError::Missing { what }
            }
            source => ImageError::Registry {
                what,
                source: Box::new(source),
            },
        }
    }

    /// One login for all requests that follow.
    async fn log_in(&self) -> Result<()> {
        self.client
            .auth(&self.image, &self.auth, RegistryOperation::Pull)
            .await
            .map_err(self.failed("a login for"))
            .map(drop)
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
        let fetch = self
            .client
            .pull_manifest_raw(image, &self.auth, MANIFEST_TYPES);
        let (bytes, _) = tokio::time::timeout(MANIFEST_TIMEOUT, fetch)
            .await
            .map_err(|_| ImageError::RegistrySilent { what: what.clone() })?
            .map_err(self.failed("the manifest of"))?;
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
        self.fetch(&what, descriptor, &mut bytes, |_| ()).await?;
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
        let mut file = inner.folders.work_file()?;
        self.fetch(&what, descriptor, &mut file, |n| meter.add(n))
            .await?;
        file.rewind()
            .map_err(ImageError::io("read", &inner.folders.work))?;
        Ok(file)
    }

    /// Exactly the promised bytes, or an error; never more than promised are taken.
    ///
    /// Chunks are small and go to the page cache, so writing them here does not hold the runtime up.
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
        while let Err(error) = self.stream(descriptor, &mut taken, &mut take).await {
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
        descriptor: &Descriptor,
        taken: &mut u64,
        take: &mut impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let (mut stream, mut skip) = self.open(descriptor, *taken).await?;
        while let Some(chunk) = stream.next().await {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                // The client checks at the end too, but our own checks tell more.
                Err(e) if is_digest_error(&e) => break,
                Err(e) => return Err(self.failed("a blob of")(e.into())),
            };
            let known = skip.min(chunk.len() as u64);
            skip -= known;
            let new = &chunk[usize::try_from(known).unwrap_or(chunk.len())..];
            take(new)?;
            *taken += new.len() as u64;
        }
        Ok(())
    }

    /// A blob from byte `from` on, and how many bytes to leave out because the registry begins anew nevertheless.
    async fn open(
        &self,
        descriptor: &Descriptor,
        from: u64,
    ) -> Result<(BoxStream<'static, io::Result<Bytes>>, u64)> {
        let wanted = OciDescriptor {
            digest: descriptor.digest.clone(),
            ..OciDescriptor::default()
        };
        let opened = if from == 0 {
            let whole = self.client.pull_blob_stream(&self.image, &wanted).await;
            whole.map(BlobResponse::Full)
        } else {
            let client = &self.client;
            client
                .pull_blob_stream_partial(&self.image, &wanted, from, None)
                .await
        };
        Ok(match opened.map_err(self.failed("a blob of"))? {
            BlobResponse::Full(whole) => (whole.stream, from),
            BlobResponse::Partial(rest) => (rest.stream, 0),
        })
    }
}

fn is_missing(envelope: &OciEnvelope) -> bool {
    envelope.errors.iter().any(|error| {
        matches!(
            error.code,
            OciErrorCode::ManifestUnknown
                | OciErrorCode::NameUnknown
                | OciErrorCode::BlobUnknown
                | OciErrorCode::NotFound
        )
    })
}

/// What a library says of a request is long; its last cause tells a person most.
fn unreachable(registry: String, error: &(dyn std::error::Error + 'static)) -> ImageError {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let reason = causes.last().map(ToString::to_string);
    ImageError::Unreachable {
        registry,
        reason: reason.unwrap_or_default(),
    }
}

fn wrong_size(what: &str, descriptor: &Descriptor, actual: u64) -> ImageError {
    ImageError::Size {
        what: what.to_owned(),
        expected: descriptor.size,
        actual,
    }
}

fn is_digest_error(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<DigestError>)
}

/// `localhost`, `127.0.0.1` or `[::1]`, with or without a port.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
