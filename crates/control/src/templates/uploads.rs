//! Archives that copy steps take their files from, each under a digest of what is in it, apart for each org.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use skerry_proto::node::ByteStream;
use skerry_store::Tenant;
use skerry_types::{Error, ErrorCode, Result};
use tokio::io::AsyncWriteExt;

use crate::{Caller, Control};

/// What all uploads of an org may take.
const MAX_BYTES: u64 = 20 << 30;
/// How much of an upload is taken before its room is looked at again.
const LOOK_BYTES: u64 = 4 << 20;
/// An upload that no build used for so long is removed.
const KEEP_FOR: Duration = Duration::from_hours(24);

/// A folder with a folder for each org.
#[derive(Debug)]
pub(crate) struct Uploads {
    folder: Option<PathBuf>,
}

impl Uploads {
    pub(crate) const fn new(folder: Option<PathBuf>) -> Self {
        Self { folder }
    }

    fn of(&self, tenant: &Tenant) -> Result<PathBuf> {
        let folder = self.folder.as_ref().ok_or_else(|| {
            Error::unsupported("this server has no folder for uploads, so nothing can be copied")
        })?;
        Ok(folder.join(tenant.org().label()))
    }

    fn path(&self, tenant: &Tenant, hash: &str) -> Result<PathBuf> {
        let is_hash = hash.len() == 64
            && hash
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_hash {
            return Err(Error::validation(
                "hash: must be 64 lower-case hexadecimal digits",
            ));
        }
        Ok(self.of(tenant)?.join(hash))
    }

    /// Opens one, which is thereby used.
    pub(super) fn open(&self, tenant: &Tenant, hash: &str) -> Result<File> {
        let path = self.path(tenant, hash)?;
        let file = File::open(path).map_err(|_| gone(hash))?;
        file.set_modified(SystemTime::now())
            .map_err(|error| failed(&error))?;
        Ok(file)
    }

    pub(super) fn must_have(&self, tenant: &Tenant, hash: &str) -> Result<()> {
        self.open(tenant, hash).map(drop)
    }

    /// Removes what nobody used for a while.
    pub(crate) fn clean(&self) -> io::Result<()> {
        let Some(folder) = self.folder.as_ref().filter(|folder| folder.exists()) else {
            return Ok(());
        };
        for org in fs::read_dir(folder)? {
            for upload in fs::read_dir(org?.path())? {
                let upload = upload?;
                let age = upload.metadata()?.modified()?.elapsed().unwrap_or_default();
                if age > KEEP_FOR {
                    fs::remove_file(upload.path())?;
                }
            }
        }
        Ok(())
    }
}

impl Control {
    /// Whether an archive is there under this name.
    pub fn has_upload(&self, caller: &Caller, hash: &str) -> Result<bool> {
        Ok(self.0.uploads.path(&caller.tenant, hash)?.exists())
    }

    /// Takes an archive, whole or not at all, compressed with gzip or not. `hash` is the SHA-256 of its bytes; with `checked` it must be.
    pub async fn upload(
        &self,
        caller: &Caller,
        hash: &str,
        content: ByteStream,
        checked: bool,
    ) -> Result<()> {
        self.upload_for(&caller.tenant, hash, content, checked)
            .await
    }

    pub(super) async fn upload_for(
        &self,
        tenant: &Tenant,
        hash: &str,
        mut content: ByteStream,
        checked: bool,
    ) -> Result<()> {
        self.takes_work()?;
        let path = self.0.uploads.path(tenant, hash)?;
        let folder = self.0.uploads.of(tenant)?;
        fs::create_dir_all(&folder).map_err(|error| failed(&error))?;
        let mut left = 0;
        // Beside its place, so that it can be put there whole. Without its name it is gone with its writer.
        let part = tempfile::NamedTempFile::new_in(&folder).map_err(|error| failed(&error))?;
        let reopened = part.reopen().map_err(|error| failed(&error))?;
        let mut file = tokio::fs::File::from_std(reopened);
        let mut digest = Sha256::new();
        while let Some(chunk) = content.try_next().await? {
            let length = chunk.len() as u64;
            if left < length {
                // Others upload at the same time.
                let room = room(&folder).map_err(|error| failed(&error))?;
                left = room.min(length.max(LOOK_BYTES));
            }
            left = left.checked_sub(length).ok_or_else(full)?;
            digest.update(&chunk);
            file.write_all(&chunk)
                .await
                .map_err(|error| failed(&error))?;
        }
        file.sync_all().await.map_err(|error| failed(&error))?;
        let is: String = digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        if checked && is != hash {
            return Err(Error::validation(format!(
                "hash: what came has the SHA-256 {is}"
            )));
        }
        part.persist(path).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

fn room(folder: &PathBuf) -> io::Result<u64> {
    let mut used = 0;
    for upload in fs::read_dir(folder)? {
        // One may be put in its place meanwhile.
        used += upload?.metadata().map_or(0, |found| found.len());
    }
    Ok(MAX_BYTES.saturating_sub(used))
}

fn gone(hash: &str) -> Error {
    Error::validation(format!("the files {hash} are not here"))
        .with_hint("upload them, then start the build again")
}

fn full() -> Error {
    let text = format!("all uploads together may take {} GiB", MAX_BYTES >> 30);
    Error::new(ErrorCode::QuotaExceeded, text)
        .with_hint("they go when no build used them for a day")
}

fn failed(error: &io::Error) -> Error {
    let full = matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    );
    let code = if full {
        ErrorCode::DiskFull
    } else {
        ErrorCode::InternalError
    };
    Error::new(code, format!("cannot keep the upload: {error}"))
}
