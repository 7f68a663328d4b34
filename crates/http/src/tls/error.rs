//! What can go wrong before TLS is spoken.

use std::io;
use std::path::PathBuf;

use rustls::pki_types::pem;
use thiserror::Error;

/// Why there is no TLS.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file of the operator's, or of the CA, cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is there, but holds no certificate or key.
    #[error("{} is no PEM file with what is needed", path.display())]
    Pem {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// The key is not the one of the certificate, or of a kind that is not known.
    #[error("{} cannot be used with {}", key.display(), certificates.display())]
    Pair {
        /// The file of the key.
        key: PathBuf,
        /// The file of the certificate.
        certificates: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// The CA's files cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which one.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A certificate cannot be made, for a name that cannot be in one, for example.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// What the CA signed cannot be used.
    #[error("a certificate that was just made cannot be used")]
    Own(#[source] rustls::Error),
    /// Nothing can be agreed upon with any client.
    #[error("there is no way to speak TLS")]
    Config(#[source] rustls::Error),
}
