//! What a driver remembers of its sandboxes on disk, so that any later daemon can find, take up and remove all of each.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use skerry_types::SandboxId;

const STATE: &str = "state.json";
const STATE_NEW: &str = "state.json.new";

/// A folder for each sandbox, made before anything else of it and removed after everything else, in which what is known of it is an `S`.
#[derive(Debug)]
pub struct Records<S> {
    root: PathBuf,
    states: PhantomData<fn() -> S>,
}

impl<S> Clone for Records<S> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            states: PhantomData,
        }
    }
}

impl<S: Serialize + DeserializeOwned> Records<S> {
    /// Makes the folder in which they are, for this user alone.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&root)?;
        Ok(Self {
            root,
            states: PhantomData,
        })
    }

    /// The folder in which they are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of one sandbox.
    pub fn folder(&self, id: SandboxId) -> PathBuf {
        self.root.join(id.label())
    }

    /// Begins the record of a sandbox. `AlreadyExists`: there is one.
    pub fn begin(&self, id: SandboxId) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(self.folder(id))
    }

    /// Is anything remembered of it?
    pub fn exists(&self, id: SandboxId) -> bool {
        self.folder(id).is_dir()
    }

    /// Replaces what is remembered, whole or not at all.
    pub fn write(&self, id: SandboxId, state: &S) -> io::Result<()> {
        let folder = self.folder(id);
        let new = folder.join(STATE_NEW);
        fs::write(&new, serde_json::to_vec(state)?)?;
        fs::rename(new, folder.join(STATE))
    }

    /// What is remembered; `None` if that is nothing, or not whole because the machine itself went down.
    pub fn read(&self, id: SandboxId) -> io::Result<Option<S>> {
        match fs::read(self.folder(id).join(STATE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every sandbox of which there is anything, oldest first.
    pub fn list(&self) -> io::Result<Vec<SandboxId>> {
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let name = entry?.file_name();
            let id = name.to_str().map(str::parse::<SandboxId>);
            ids.extend(id.and_then(Result::ok));
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Ends the record. Fine if there is none.
    pub fn remove(&self, id: SandboxId) -> io::Result<()> {
        match fs::remove_dir_all(self.folder(id)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
