//! The operator's certificate: read from files, and again when they change.

use std::error::Error;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{TlsError, provider};

/// How often the files are looked at. Links to them, which tools exchange as a whole, are looked through.
const LOOK: Duration = Duration::from_secs(2);

/// What tells one content of a file from another: inode, time of change, size.
type Stamp = Option<(u64, i64, i64, u64)>;

/// See the module.
#[derive(Debug)]
pub(super) struct Files {
    certificates: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Files {
    pub(super) fn open(certificates: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let current = RwLock::new(load(&certificates, &key)?);
        Ok(Self {
            certificates,
            key,
            current,
        })
    }

    /// Until something fits that was read later, what was read before is used.
    pub(super) async fn keep_fresh(&self) {
        // Not looked at yet: they may have changed since they were read.
        let mut seen = None;
        loop {
            let stamps = Some([stamp(&self.certificates), stamp(&self.key)]);
            if stamps != seen {
                seen = stamps;
                self.load_again();
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn load_again(&self) {
        match load(&self.certificates, &self.key) {
            Ok(new) => {
                if new.cert != self.current.read().cert {
                    tracing::info!(file = %self.certificates.display(), "a new certificate");
                    *self.current.write() = new;
                }
            }
            // One file is most often exchanged a moment before the other.
            Err(error) => tracing::warn!(
                error = &error as &dyn Error,
                "the certificate stays the one of before"
            ),
        }
    }
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

fn load(certificates: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = CertificateDer::pem_slice_iter(&read(certificates)?)
        .collect::<Result<Vec<_>, _>>()
        .and_then(|chain| {
            (!chain.is_empty())
                .then_some(chain)
                .ok_or(pem::Error::NoItemsFound)
        });
    let wrong = |path: &Path| {
        let path = path.to_owned();
        |source| TlsError::Pem { path, source }
    };
    let chain = chain.map_err(wrong(certificates))?;
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(wrong(key))?;
    let pair = CertifiedKey::from_der(chain, private, &provider());
    Ok(Arc::new(pair.map_err(|source| TlsError::Pair {
        key: key.to_owned(),
        certificates: certificates.to_owned(),
        source,
    })?))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::Read {
        path: path.to_owned(),
        source,
    })
}

fn stamp(path: &Path) -> Stamp {
    let found = fs::metadata(path).ok()?;
    Some((found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}
