//! Tags that only this installation can make: what its tokens and links are made of.

use hmac::{Hmac, Mac};
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::Sha256;
use skerry_store::{SECRET_BYTES, Store};
use skerry_types::{Error, Result};

use crate::Control;
use crate::service::SYSTEM;

/// Makes tags. Its secret is the installation's: the same after a restart, and in every process over one store.
#[derive(Clone)]
pub(crate) struct Signer(Hmac<Sha256>);

impl Signer {
    pub(crate) async fn open(store: &Store) -> Result<Self> {
        let mut fresh = [0; SECRET_BYTES];
        OsRng
            .try_fill_bytes(&mut fresh)
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))?;
        let secret = store.server_secret(&SYSTEM, fresh).await?;
        let keyed = Hmac::new_from_slice(&secret)
            .map_err(|error| Error::internal(format!("the server's secret: {error}")))?;
        Ok(Self(keyed))
    }
}

impl Control {
    /// The tag of a message: HMAC-SHA256 with the installation's secret. One purpose's tags mean nothing to another. Compare in constant time.
    pub fn sign(&self, purpose: &'static str, message: &[u8]) -> [u8; 32] {
        let mut mac = self.0.signer.0.clone();
        mac.update(purpose.as_bytes());
        // No purpose holds a NUL, so no two pairs read the same.
        mac.update(&[0]);
        mac.update(message);
        mac.finalize().into_bytes().into()
    }
}
