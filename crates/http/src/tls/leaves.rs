//! What the local CA signed: for each name that a client asks for, a certificate of its own.
//!
//! One with `*.localhost` would not do: clients take no wildcard directly below the last label.

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::TlsError;
use super::ca::{Ca, LEAF_LIFE};

/// Certificates that are kept. Making one takes less than a handshake.
const KEPT: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Leaves {
    ca: Ca,
    /// By name; that of clients who say none is empty.
    kept: Mutex<HashMap<String, Leaf>>,
}

#[derive(Debug)]
struct Leaf {
    pair: Arc<CertifiedKey>,
    renew: SystemTime,
}

impl Leaves {
    pub(super) fn new(ca: Ca) -> Self {
        Self {
            ca,
            kept: Mutex::default(),
        }
    }

    fn get(&self, name: &str) -> Result<Arc<CertifiedKey>, TlsError> {
        let now = SystemTime::now();
        let mut kept = self.kept.lock();
        if let Some(leaf) = kept.get(name).filter(|leaf| now < leaf.renew) {
            return Ok(leaf.pair.clone());
        }
        let pair = match name {
            "" => self.ca.sign_own()?,
            name => self.ca.sign(vec![name.to_owned()])?,
        };
        if kept.len() >= KEPT {
            kept.clear();
        }
        let leaf = Leaf {
            pair: pair.clone(),
            renew: now + LEAF_LIFE / 2,
        };
        kept.insert(name.to_owned(), leaf);
        Ok(pair)
    }
}

impl ResolvesServerCert for Leaves {
    /// `None` for a name that is not ours.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().unwrap_or_default().to_ascii_lowercase();
        if !name.is_empty() && !self.ca.covers(&name) {
            return None;
        }
        let pair = self.get(&name);
        if let Err(error) = &pair {
            tracing::error!(error = error as &dyn Error, name, "no certificate");
        }
        pair.ok()
    }
}
