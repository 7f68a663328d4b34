//! Keys: random secrets of which only a hash is kept.

use std::io::ErrorKind;
use std::path::Path;

use jiff::Timestamp;
use rand::TryRngCore;
use rand::rngs::OsRng;
use sha2::{Digest, Sha256};
use skerry_store::{NewKey, Tenant};
use skerry_types::id::base62_encode;
use skerry_types::{Error, ErrorCode, KeyId, OrgId, Result};
use tokio::fs;
use tokio::io::AsyncWriteExt;

use crate::service::SYSTEM;
use crate::spelling::{self, OURS};
use crate::{Caller, Control, Scope};

/// Characters of a secret that may be shown to tell keys apart.
const SHOWN: usize = 8;
const MAX_SECRET: usize = 128;
const LOCAL: &str = "local";

/// What is known of a key that was shown.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    caller: Caller,
    expires_at: Option<Timestamp>,
}

impl Control {
    /// Who this key, in either spelling, belongs to. 401 for one that does not count.
    ///
    /// The secret is compared as its SHA-256 only, so what the time of a comparison tells is worth nothing. A key that this process takes back
    /// is refused from then on; one that another process took back, 5 s later at most.
    pub async fn authenticate(&self, secret: &str) -> Result<Caller> {
        let secret = Some(secret).filter(|secret| secret.len() <= MAX_SECRET);
        let secret = secret.and_then(spelling::ours).ok_or_else(unauthorized)?;
        let (hash, now) = (hash(&secret), self.now());
        let known = self.0.keys.get(hash, now, self.look_up(hash, now)).await?;
        if known.expires_at.is_some_and(|end| end <= now) {
            return Err(unauthorized());
        }
        Ok(known.caller)
    }

    async fn look_up(&self, hash: [u8; 32], now: Timestamp) -> Result<Known> {
        let key = self.0.store.use_key(&SYSTEM, hash, now).await?;
        let key = key.ok_or_else(unauthorized)?;
        // A scope that this release does not know grants nothing here.
        let scopes = key.scopes.iter().filter_map(|s| Scope::from_name(s));
        Ok(Known {
            caller: Caller {
                tenant: Tenant::of(key.org_id),
                key_id: Some(key.id),
                scopes: (!key.scopes.is_empty()).then(|| scopes.collect()),
            },
            expires_at: key.expires_at,
        })
    }

    /// The key in this file; made, with mode 0600, if there is none that counts.
    pub async fn ensure_local_key(&self, path: &Path) -> Result<String> {
        if let Some(secret) = read_secret(path).await?
            && self.authenticate(&secret).await.is_ok()
        {
            return Ok(secret);
        }
        let tenant = Tenant::of(OrgId::LOCAL);
        self.revoke_local(&tenant).await?;
        let secret = new_secret()?;
        let key = NewKey {
            id: KeyId::new(),
            name: LOCAL.to_owned(),
            prefix: secret.chars().take(SHOWN).collect(),
            hash: hash(&secret),
            scopes: Vec::new(),
            expires_at: None,
        };
        self.0.store.create_key(&tenant, key, self.now()).await?;
        write_secret(path, &secret).await.map_err(|error| {
            Error::internal(format!(
                "the key file {} cannot be written: {error}",
                path.display()
            ))
        })?;
        Ok(secret)
    }

    /// Local keys whose file is gone are nobody's.
    async fn revoke_local(&self, tenant: &Tenant) -> Result<()> {
        let keys = self.0.store.keys(tenant).await?;
        let lost = keys
            .iter()
            .filter(|k| k.name == LOCAL && k.revoked_at.is_none());
        for key in lost {
            self.0.store.revoke_key(tenant, key.id, self.now()).await?;
            self.0.keys.forget();
        }
        Ok(())
    }
}

fn unauthorized() -> Error {
    Error::new(
        ErrorCode::Unauthorized,
        "this key is not known, or no longer counts",
    )
    .with_hint("send `Authorization: Bearer sk_…`; the local one is the file `key` in the data folder of `skerry up`")
}

fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// 256 random bits.
fn new_secret() -> Result<String> {
    let random = || {
        let mut half = [0; 16];
        OsRng
            .try_fill_bytes(&mut half)
            .map(|()| base62_encode(u128::from_ne_bytes(half)))
            .map_err(|error| Error::internal(format!("no random numbers: {error}")))
    };
    Ok(format!("{OURS}{}{}", random()?, random()?))
}

async fn read_secret(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path).await {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::internal(format!(
            "the key file {} cannot be read: {error}",
            path.display()
        ))),
    }
}

/// Whole or not at all, and never readable by others.
async fn write_secret(path: &Path, secret: &str) -> std::io::Result<()> {
    let draft = path.with_extension("new");
    match fs::remove_file(&draft).await {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(&draft).await?;
    file.write_all(format!("{secret}\n").as_bytes()).await?;
    file.sync_all().await?;
    fs::rename(&draft, path).await
}
