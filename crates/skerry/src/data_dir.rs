//! The folder of everything that a server keeps, and what lies where in it.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The folder asked for, or the usual one: `/var/lib/skerry` for root, `$XDG_DATA_HOME/skerry` for others.
    pub(crate) fn choose(asked: Option<&Path>) -> anyhow::Result<Self> {
        if let Some(path) = asked {
            return Ok(Self(std::path::absolute(path)?));
        }
        if rustix::process::geteuid().is_root() {
            return Ok(Self(PathBuf::from("/var/lib/skerry")));
        }
        let var = |name| std::env::var_os(name).map(PathBuf::from);
        let home = || Some(var("HOME")?.join(".local/share"));
        let share = var("XDG_DATA_HOME")
            .filter(|p| p.is_absolute())
            .or_else(home)
            .context("neither HOME nor XDG_DATA_HOME is set; say --data-dir")?;
        Ok(Self(share.join("skerry")))
    }

    /// Makes it, closed to everyone else.
    pub(crate) fn create(&self) -> anyhow::Result<()> {
        let made = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0);
        made.and_then(|()| std::fs::set_permissions(&self.0, Permissions::from_mode(0o700)))
            .with_context(|| format!("cannot use the data folder {}", self.0.display()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The key that the CLI on this machine finds by itself.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.0.join("key")
    }

    /// Where the server listens.
    pub(crate) fn url_file(&self) -> PathBuf {
        self.0.join("url")
    }

    /// Where it listens for TLS, with the name that its certificates are for.
    pub(crate) fn tls_url_file(&self) -> PathBuf {
        self.0.join("tls_url")
    }

    /// The CA of its own.
    pub(crate) fn tls(&self) -> PathBuf {
        self.0.join("tls")
    }

    /// The certificate of that CA.
    pub(crate) fn ca_file(&self) -> PathBuf {
        self.tls().join("ca.pem")
    }

    /// The same, and those that the system trusts. There as long as a server shows what the CA signed.
    pub(crate) fn ca_bundle(&self) -> PathBuf {
        self.tls().join("bundle.pem")
    }

    /// The process of the server.
    pub(crate) fn pid_file(&self) -> PathBuf {
        self.0.join("pid")
    }

    /// What a server in the background says.
    pub(crate) fn log_file(&self) -> PathBuf {
        self.0.join("log")
    }

    /// Leaves word that this process serves it.
    pub(crate) fn announce(&self, url: &str, tls_url: Option<&str>) -> io::Result<()> {
        self.withdraw();
        std::fs::write(self.pid_file(), std::process::id().to_string())?;
        if let Some(url) = tls_url {
            std::fs::write(self.tls_url_file(), url)?;
        }
        std::fs::write(self.url_file(), url)
    }

    /// Nobody serves it any more.
    pub(crate) fn withdraw(&self) {
        for file in [self.url_file(), self.tls_url_file(), self.pid_file()] {
            // One that stays is not believed: nothing answers there.
            drop(std::fs::remove_file(file));
        }
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("skerry.db")
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.0.join("uploads")
    }

    /// What is kept of each sandbox, its record above all.
    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.0.join("sandboxes")
    }

    /// What is known of a CRIU that was tried out.
    pub(crate) fn criu(&self) -> PathBuf {
        self.0.join("criu")
    }

    pub(crate) fn network(&self) -> PathBuf {
        self.0.join("network")
    }

    /// The content of a small file of it; `None` if it is not there.
    pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }
}
