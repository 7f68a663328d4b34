//! TLS at the edge: certificates of the operator, or of a local CA.

mod ca;
mod error;
mod files;
mod leaves;
mod listener;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ResolvesServerCert;
use tokio_rustls::TlsAcceptor;

pub use error::TlsError;
pub(crate) use listener::TlsListener;

use ca::Ca;
use files::Files;
use leaves::Leaves;

/// What is spoken over it, the better one first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// What a listener needs to speak TLS. Cheap to clone; every clone is the same one.
#[derive(Debug, Clone)]
pub struct Tls {
    config: Arc<ServerConfig>,
    source: Source,
}

#[derive(Debug, Clone)]
enum Source {
    Files(Arc<Files>),
    Local { ca: String },
}

impl Tls {
    /// With the certificate chain and the key of these PEM files.
    pub fn of_files(certificates: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let files = Arc::new(Files::open(certificates, key)?);
        Self::new(files.clone(), Source::Files(files))
    }

    /// With a CA of our own, kept in `folder` and made if there is none that fits. It vouches for `localhost` and these domains, for all names
    /// below them, and for the loopback addresses, and can vouch for nothing else.
    pub fn local(folder: &Path, domains: &[String]) -> Result<Self, TlsError> {
        let ca = Ca::open(folder, domains)?;
        let source = Source::Local {
            ca: ca.pem().to_owned(),
        };
        Self::new(Arc::new(Leaves::new(ca)), source)
    }

    fn new(resolver: Arc<dyn ResolvesServerCert>, source: Source) -> Result<Self, TlsError> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Config)?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = PROTOCOLS.map(Vec::from).into();
        Ok(Self {
            config: Arc::new(config),
            source,
        })
    }

    /// The certificate of the local CA, in PEM: what clients have to trust.
    pub fn ca(&self) -> Option<&str> {
        match &self.source {
            Source::Local { ca } => Some(ca),
            Source::Files(_) => None,
        }
    }

    /// Reads the operator's files again whenever they change. Never returns; what comes of a local CA needs no care.
    pub async fn keep_fresh(&self) {
        match &self.source {
            Source::Files(files) => files.keep_fresh().await,
            Source::Local { .. } => std::future::pending().await,
        }
    }

    fn acceptor(&self) -> TlsAcceptor {
        self.config.clone().into()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
